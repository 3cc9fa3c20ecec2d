"""Python API for features: images in, a NumPy array out."""

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mocox.datasets import Pixels, collate_views, decode
from mocox.datasets.base import Crops
from mocox.datasets.decoding import to_rgb
from mocox.datasets.image_files import read_regular_file
from mocox.datasets.pixels import DTYPES, RGB
from mocox.datasets.resizing import Size
from mocox.evaluation.encoder import LEVELS, Encoder, choose_device, evaluation_crops, load_encoder
from mocox.evaluation.features import Progress, extract_from_loader
from mocox.registry import TRANSFORMS

ImageLike = str | Path | Image.Image | np.ndarray | Tensor


class FeatureExtractor:
    """Compute features of images, batch by batch; used like mmpretrain's inferencers.

    Args:
        model: A checkpoint that :func:`mocox.checkpoint.read` recognises; or a model of mocox; or any module that maps
            (B, 3, S, S), normalised as ImageNet is, to features.
        level: ``backbone``, or ``projector`` for what the contrastive loss compares.
        encoder: ``query`` or ``momentum``.
        config: See :func:`mocox.evaluation.encoder.load_encoder`.
        heads: Number of attention heads, where the file does not tell.
        image_size: Side in pixels that images are resized and cut to, or (height, width); by default that of
            pre-training.
        device: By default ``cuda`` for a checkpoint if there is a GPU, and where it is for a model.
        pixels: How image files are read; by default as a checkpoint says.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file or the model does not have what was asked for.
    """

    def __init__(
        self,
        model: str | Path | nn.Module,
        level: str = 'backbone',
        encoder: str = 'query',
        config: str | Path | Config | None = None,
        heads: int | None = None,
        image_size: Size | None = None,
        device: str | torch.device | None = None,
        pixels: Pixels | None = None,
    ) -> None:
        if isinstance(model, nn.Module):
            self.model, size = _wrap(model, level, encoder, image_size)
            channels = len(self.model.data_preprocessor.mean)
            self.pixels = pixels or (RGB if channels == 3 else Pixels(channels=channels))
            crops = evaluation_crops(size)
            device = device or next(model.parameters()).device
        else:
            loaded = load_encoder(model, encoder, level, config, heads, image_size)
            self.model, crops = loaded.model, loaded.crops
            self.pixels = pixels or loaded.pixels
            device = choose_device(device)
        self.model.to(device)
        self.crops = TRANSFORMS.build(crops)

    def __call__(
        self, images: Iterable[ImageLike], batch_size: int = 64, num_workers: int = 0, progress: bool = False
    ) -> np.ndarray:
        """Features (N, C) float32, in the order of the images.

        Args:
            images: Paths, PIL images, uint8 arrays (H, W, 3) or (H, W), uint8 tensors (3, H, W): RGB, of any size,
                resized and cut as in evaluation. For an encoder of C channels arrays (H, W, C) as data sets give them
                (uint8, uint16, or float32 from 0 to 255). Float tensors (C, S, S) are taken as they are: already
                normalised.
            batch_size: Images per forward pass.
            num_workers: Processes that decode.
            progress: Print how far it is.

        Raises:
            TypeError: Not a list of images.
            ValueError: No images, or one that cannot be read; names it.
        """
        given = _as_list(images)
        report = Progress('images', len(given), len(given)) if progress else None
        if isinstance(given[0], Tensor) and given[0].is_floating_point():
            return self._from_tensors(given, batch_size, report)
        loader = DataLoader(
            _Images(given, self.crops, self.pixels), batch_size, num_workers=num_workers, collate_fn=collate_views
        )
        return extract_from_loader(self.model, loader, report)[0].numpy()

    def _from_tensors(self, images: Sequence[ImageLike], batch_size: int, report: Progress | None) -> np.ndarray:
        tensors = [image for image in images if isinstance(image, Tensor)]
        if len(tensors) < len(images) or any(tensor.shape != tensors[0].shape for tensor in tensors):
            raise ValueError('float tensors are normalised images of one shape (3, S, S); others came with them')
        device = next(self.model.parameters()).device
        features = []
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        for start in range(0, len(tensors), batch_size):
            batch = torch.stack(tensors[start : start + batch_size]).to(device, torch.float32)
            features.append(self.model.extract_feat(batch).float().cpu())
            if report:
                report(len(batch))
        for module, training in modes:
            module.training = training
        return torch.cat(features).numpy()


def extract_features(
    model: str | Path | nn.Module,
    images: Iterable[ImageLike],
    level: str = 'backbone',
    encoder: str = 'query',
    batch_size: int = 64,
    device: str | torch.device | None = None,
    num_workers: int = 0,
    progress: bool = False,
    **settings,
) -> np.ndarray:
    """Features (N, C) of images by a checkpoint or a model.

    Args:
        model: See :class:`FeatureExtractor`.
        images: See :meth:`FeatureExtractor.__call__`.
        level: ``backbone`` or ``projector``.
        encoder: ``query`` or ``momentum``.
        batch_size: Images per forward pass.
        device: See :class:`FeatureExtractor`.
        num_workers: Processes that decode.
        progress: Print how far it is.
        settings: ``config``, ``heads``, ``image_size``, ``pixels`` of :class:`FeatureExtractor`.
    """
    extractor = FeatureExtractor(model, level, encoder, device=device, **settings)
    return extractor(images, batch_size, num_workers, progress)


class _Images(Dataset):
    def __init__(self, images: Sequence[ImageLike], crops: Crops, pixels: Pixels) -> None:
        self.images, self.crops, self.pixels = images, crops, pixels
        self.rng = np.random.default_rng(0)  # asked for nothing: no random crop

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=self.crops(to_pixels(self.images[index], self.pixels), self.rng))


def to_pixels(image: ImageLike, pixels: Pixels = RGB) -> np.ndarray:
    """(H, W, C), by default RGB and uint8.

    Raises:
        FileNotFoundError: No such file.
        TypeError: Not an image.
        ValueError: It cannot be read; names it.
    """
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, str | Path):
        try:
            return decode(read_regular_file(str(Path(image).expanduser())), pixels=pixels)
        except FileNotFoundError:
            raise
        except Exception as error:  # Pillow's plugins raise anything from SyntaxError to struct.error
            raise ValueError(f'{image} cannot be read as an image: {error}') from error
    if isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3 and len(image) == 3:
        return np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and (image.ndim == 2 or image.shape[2:] == (3,)):
        return np.ascontiguousarray(image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2))
    if isinstance(image, np.ndarray) and image.dtype in DTYPES.values() and image.shape[2:] == (pixels.num_channels,):
        return np.ascontiguousarray(image)
    what = f'{image.dtype} of shape {tuple(image.shape)}' if hasattr(image, 'shape') else type(image).__name__
    raise TypeError(
        f'an image must be a path, a PIL image, a uint8 array (H, W, 3) or a uint8 tensor (3, H, W), not {what}'
    )


def _as_list(images: Iterable[ImageLike]) -> Sequence[ImageLike]:
    if isinstance(images, str | Path | Image.Image):
        raise TypeError(f'images must be a list, got {type(images).__name__}: pass [image]')
    listed = list(images)
    if not listed:
        raise ValueError('there are no images')
    return listed


def _wrap(model: nn.Module, level: str, encoder: str, image_size: Size | None) -> tuple[Encoder, Size]:
    """An encoder that shares the modules of a model."""
    if level not in LEVELS:
        raise ValueError(f'level={level!r}: choose one of {", ".join(LEVELS)}')
    if encoder not in ('query', 'momentum'):
        raise ValueError(f"encoder={encoder!r}: choose 'query' or 'momentum'")
    owner = model if encoder == 'query' else getattr(model, 'momentum_encoder', None)
    if owner is None:
        raise ValueError(f'{type(model).__name__} has no momentum encoder')
    backbone, neck = getattr(owner, 'backbone', model), getattr(owner, 'neck', None)
    projector = None
    if level == 'projector':
        if neck is None:
            raise ValueError(f'{type(model).__name__} has no projector: it lacks a neck')
        projector = _Projector(neck)
    wrapped = Encoder(backbone, projector)
    preprocessor = getattr(model, 'data_preprocessor', None)
    if preprocessor is not None and hasattr(preprocessor, 'mean') and hasattr(preprocessor, 'std'):
        wrapped.data_preprocessor.mean = copy.copy(preprocessor.mean)
        wrapped.data_preprocessor.std = copy.copy(preprocessor.std)
    size = image_size or getattr(getattr(backbone, 'patch_embed', None), 'img_size', None) or 224
    return wrapped, size if isinstance(size, int) else tuple(size) if size[0] != size[1] else size[0]


class _Projector(nn.Module):
    def __init__(self, neck: nn.Module) -> None:
        super().__init__()
        self.neck = neck

    def forward(self, features: Tensor) -> Tensor:
        return self.neck((features,))[-1]
