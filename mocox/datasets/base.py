"""The sample: crops, the uniform numbers for its photometric operations, and its index."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from mocox.augment.opencv import augment_image, read_parameters
from mocox.augment.recipe import View, check_num_views
from mocox.datasets.classes import labelling_of
from mocox.datasets.decoding import decode
from mocox.datasets.pixels import Pixels
from mocox.registry import FUNCTIONS, TRANSFORMS

# Uniform numbers shipped per view. More than today's operations read, so that a new one leaves the crops as they are.
NUM_DRAWS = 16

SPLIT = (torch.uint8, torch.uint16, torch.float32)  # types of crops


class Crops(Protocol):
    """Cuts ``num_views`` views out of one image."""

    num_views: int

    def __call__(self, image: np.ndarray, rng: np.random.Generator, /) -> list[Tensor]: ...


class ViewsDataset(Dataset):
    """Images cut into views; a subclass knows where they come from (:meth:`load`, ``__len__``).

    Every random number of a sample is a function of (seed, epoch, index), so a sample does not depend on the number of
    workers or processes, nor on a restart. The sampler ships the epoch: an item is asked for as ``(epoch, index)``; a
    bare index means epoch 0. Crops are cut here, on the CPU; everything photometric happens later, with the uniform
    ``draws`` that travel with the sample: in :func:`collate_views`, or in batches on the training device.

    Args:
        crops: A registered transform, as a config or built: ``crops(image, rng) -> views``.
        with_labels: Whether an item has a ``label``.
        classes: Class names in the order of their labels.
        seed: Not negative. None takes that of the run, which ``SetupHook`` hands over, and 0 without one.
        pixels: ``channels``, ``value_range`` and ``depth`` of :class:`~mocox.datasets.Pixels`.
    """

    labels: np.ndarray | None  # (N,) or (N, K), where a subclass has any

    def __init__(
        self,
        crops: dict | Crops,
        with_labels: bool = False,
        classes: list[str] | None = None,
        seed: int | None = None,
        **pixels: Any,
    ) -> None:
        if seed is not None and (not isinstance(seed, int) or seed < 0):
            raise ValueError(f'seed must be an integer >= 0, got {seed!r}')
        self.crops: Crops = TRANSFORMS.build(crops) if isinstance(crops, dict) else crops
        self.with_labels = with_labels
        self.classes = classes
        self.has_own_seed = seed is not None
        self.seed = seed or 0
        self.pixels = Pixels(**pixels)

    def use_seed(self, seed: int) -> None:
        """Take the seed of the run, unless it was built with one of its own."""
        if not self.has_own_seed:
            self.seed = seed

    @property
    def metainfo(self) -> dict[str, Any]:
        """The metadata that MMEngine passes to evaluators and visualizers, and stores in every checkpoint."""
        found: dict[str, Any] = {} if self.classes is None else dict(classes=tuple(self.classes))
        labelling = labelling_of(self) if self.with_labels and self.classes is None else None
        if labelling and labelling.labels is not None:  # for those who test the model on other images
            found['labels'] = tuple(labelling.labels)
        return found | (dict(pixels=settings) if (settings := self.pixels.settings()) else {})

    def load(self, index: int) -> tuple[np.ndarray, int | None]:
        """Read one image.

        Returns:
            (H, W, C), RGB and uint8 unless ``pixels`` says otherwise, and its label (None without labels).
        """
        raise NotImplementedError

    def load_positive(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray | None, Any]:
        """Read one image and, where all views but the first are to show another one, that one.

        Returns:
            The image, the other one or None, and the label of the image.
        """
        image, label = self.load(index)
        return image, None, label

    def decode(self, data: bytes, frame: int = 0) -> np.ndarray:
        """The pixels of an image file, see :func:`mocox.datasets.decode`; smaller only where the crops allow it."""
        return decode(data, getattr(self.crops, 'reduction', None), self.pixels, frame)

    def monitoring_labels(self) -> np.ndarray | None:
        """Labels (N,) for a k-NN curve while training, whether or not items have them; None without labels."""
        labels = getattr(self, 'labels', None)
        return labels if labels is not None and np.ndim(labels) == 1 else None

    def shown(self, indices: Tensor) -> Tensor:
        """The images (N,) that items show, of the images (N,) that they were asked for: others where one is unreadable.

        Args:
            indices: Indices of images that this process or its workers have loaded.
        """
        return indices

    def keep(self, rows: np.ndarray) -> None:
        """Go on with these images only, (N,) in ascending order; the others were never here.

        Raises:
            NotImplementedError: All images of this data set can be read.
        """
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):  # also ends a plain `for item in dataset`
            raise IndexError(f'index {index} is outside of a dataset of {len(self)} images')
        image, other, label = self.load_positive(epoch, index)
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch, index]))
        # Drawn before the crops, which take a varying number of random numbers.
        draws = torch.from_numpy(rng.random((self.crops.num_views, NUM_DRAWS), dtype=np.float32))
        views = self.crops(image, rng)
        if other is not None:
            views = [views[0], *self.crops(other, rng)[1:]]
        item = dict(inputs=views, draws=draws, index=index)
        if self.with_labels:
            item['label'] = label
        return item


@FUNCTIONS.register_module()
def collate_views(
    samples: list[dict[str, Any]], views: Sequence[dict | View] | None = None, _scope_: str | None = None
) -> dict[str, Any]:
    """Stack samples view by view, inside a worker straight into shared memory, and augment them there if asked to.

    Args:
        samples: Items of a dataset.
        views: Recipes of the photometric augmentation, see :class:`mocox.augment.recipe.View`, if it is to happen here,
            on the CPU. ``SetupHook`` hands over those of the preprocessor where that is faster.
        _scope_: Ignored: MMEngine hands over all of a config that was inherited from another package.

    Returns:
        ``inputs``: V tensors (B, C, H, W) of the crops' type; ``draws`` (B, V, P); ``index`` (B,); with labels
        ``label`` (B,); with ``views`` also ``augmented``, which tells the preprocessor that nothing is left to do.
    """
    batch = {key: default_collate([sample[key] for sample in samples]) for key in samples[0] if key != 'inputs'}
    crops = list(zip(*(sample['inputs'] for sample in samples), strict=True))
    if not views:
        return dict(inputs=[_stack(view) for view in crops], **batch)
    check_num_views(len(crops), len(views))
    if torch.utils.data.get_worker_info() is not None:
        cv2.setNumThreads(0)  # every core has a worker already
    recipes = [view if isinstance(view, View) else View.from_config(view) for view in views]
    inputs = [_stack(*row) for row in zip(crops, recipes, batch['draws'].unbind(1), strict=True)]
    return dict(inputs=inputs, augmented=True, **batch)


def _stack(crops: Sequence[Tensor], recipe: View | None = None, draws: Tensor | None = None) -> Tensor:
    """B tensors (C, S, S) to a batch, each augmented on its way if there is a recipe.

    default_collate takes six times as long to bring pixels stored as RGBRGB into planes.
    """
    dtype, shape = crops[0].dtype, crops[0].shape
    alike = all(crop.dtype == dtype and crop.shape == shape for crop in crops)
    if recipe is not None and not (alike and dtype in SPLIT):
        raise TypeError(
            f'only uint8, uint16 and float32 crops of one size are augmented in workers, got {dtype} {tuple(shape)}: '
            "set photometric='device' in data_preprocessor"
        )
    if not alike or dtype not in SPLIT:
        return default_collate(list(crops))
    images: Iterable[np.ndarray] = map(_to_pixels, crops)
    if recipe is not None and draws is not None:
        rows = zip(images, read_parameters(draws, recipe), strict=True)
        images = (augment_image(image, parameters, recipe) for image, parameters in rows)
    batch = _empty(dtype, len(crops), *shape)
    for image, planes in zip(images, batch.numpy(), strict=True):
        cv2.split(image, list(planes))
    return batch


def _empty(dtype: torch.dtype, *shape: int) -> Tensor:
    """Memory for a batch, in a worker shared with the main process, as default_collate allocates it."""
    if torch.utils.data.get_worker_info() is None:
        return torch.empty(shape, dtype=dtype)
    storage = torch.UntypedStorage._new_shared(math.prod(shape) * dtype.itemsize)
    return torch.empty(0, dtype=dtype).set_(storage).view(shape)


def _to_pixels(crop: Tensor) -> np.ndarray:
    """(C, H, W) to (H, W, C), a view if the pixels are stored so, as our crops are."""
    return np.ascontiguousarray(crop.permute(1, 2, 0).numpy())
