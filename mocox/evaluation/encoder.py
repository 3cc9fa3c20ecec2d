"""The frozen encoder under evaluation: built from the metadata of a checkpoint, or from a config."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mocox.checkpoint import Checkpoint, load_backbone, read
from mocox.checkpoint.provenance import BUILT_BY_NAME, oblong
from mocox.configs import open_config
from mocox.datasets import Pixels
from mocox.datasets.pixels import RGB
from mocox.datasets.resizing import Size, height_and_width
from mocox.evaluation.rebuilding import HINT, backbone_config, projector_of
from mocox.models import ViewsPreprocessor
from mocox.models.layout import last_output, require_layout
from mocox.models.necks import average_positions
from mocox.recipe import Recipe, type_of
from mocox.registry import MODELS

MAX_SIDE = 8192  # pixels of an input image's side; beyond it, allocation fails for lack of memory
LEVELS = ('backbone', 'projector')
PATCHES = 'patches'  # one vector per position of the map, none per image
IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
SMALL_PX = 64  # images up to this size are seen whole; larger ones lose a border of 1/16 at each side, as published


class Encoder(BaseModel):
    """A backbone, and a projector if its output is wanted, with the normalisation that belongs to them.

    Args:
        backbone: Maps (B, C, S, S) to features, or to a tuple whose last entry counts; maps are averaged.
        projector: Maps features (B, C) to (B, D).
        mean: Per channel, 0 to 255.
        std: Per channel, 0 to 255.
        bgr: The backbone wants blue first.
        flip_prob: Probability of a mirror image when a classifier is trained on top; none otherwise.
        patches: Give the map itself, channels last.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module | None = None,
        mean: list[float] = IMAGENET['mean'],
        std: list[float] = IMAGENET['std'],
        bgr: bool = False,
        flip_prob: float = 0.5,
        patches: bool = False,
    ) -> None:
        super().__init__(ViewsPreprocessor(mean, std, views=[dict(flip_prob=flip_prob)]))
        self.patches = patches
        self.backbone, self.projector, self.bgr = backbone, projector, bgr

    @torch.no_grad()
    def extract_feat(self, images: Tensor) -> Tensor:
        """Features (B, C), projections (B, D) or maps (B, H, W, C) of normalised images (B, C, S, S)."""
        name = type(self.backbone).__name__
        images = images.flip(1) if self.bgr else images
        if self.patches:
            return _map_of(self.backbone, images, name).permute(0, 2, 3, 1)
        features = average_positions(require_layout(last_output(self.backbone(images), name), images, name))
        return features if self.projector is None else self.projector(features)

    def forward(self, images: Tensor, data_samples: list | None = None, mode: str = 'tensor') -> Tensor:
        """MMEngine's entry; there is only ``mode='tensor'``."""
        return self.extract_feat(images)


def _map_of(backbone: nn.Module, images: Tensor, name: str) -> Tensor:
    """(B, C, H, W)."""
    output = getattr(backbone, 'forward_map', backbone)(images)
    features = require_layout(last_output(output, name), images, name)
    if features.ndim != 4:
        raise ValueError(f'level={PATCHES!r}: {name} gives one vector per image, no map')
    return features


@dataclass
class LoadedEncoder:
    """An encoder and where it comes from.

    Args:
        model: The encoder, in evaluation mode.
        crops: Config of the transform for evaluation.
        train_crops: Config of the transform for training on top of it.
        image_size: Side of the images in pixels, or (height, width).
        checkpoint: The file, recognised.
        which: ``query`` or ``momentum``.
        notes: What a person should know.
        pixels: How images are read: as the encoder was trained.
    """

    model: Encoder
    crops: dict
    train_crops: dict
    image_size: Size
    checkpoint: Checkpoint
    which: str
    notes: list[str] = field(default_factory=list)
    pixels: Pixels = RGB


def choose_device(device: str | torch.device | None) -> torch.device:
    """Return the requested device; by default ``cuda`` if there is a GPU.

    Raises:
        ValueError: torch knows no such device, or this machine has none.
    """
    try:
        chosen = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    except RuntimeError as error:
        raise ValueError(f'device {device!r} is not a device of torch: use cpu, cuda, cuda:1, mps or xpu') from error
    if chosen.type in ('cuda', 'mps', 'xpu') and not getattr(torch, chosen.type).is_available():
        raise ValueError(f'device {str(chosen)!r}: torch finds no such device on this machine; cpu is everywhere')
    return chosen


def load_encoder(
    path: str | Path,
    encoder: str = 'query',
    level: str = 'backbone',
    config: str | Path | Config | None = None,
    heads: int | None = None,
    image_size: Size | None = None,
    prefix: str | None = None,
) -> LoadedEncoder:
    """Build the encoder of a checkpoint and load all of it.

    Args:
        path: Any file that :func:`mocox.checkpoint.read` recognises.
        encoder: ``query`` or ``momentum``.
        level: ``backbone``; ``projector`` for what the contrastive loss compares; or ``patches`` for the map.
        config: A pre-training or linear-evaluation config: its backbone, normalisation and crops are used.
        heads: Number of attention heads, where the file does not tell.
        image_size: Side of the images in pixels, or (height, width); by default that of the config or of pre-training.
        prefix: Take what is below this prefix, or in this container, of the file.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file does not tell its architecture, or does not have what was asked for.
    """
    if level not in (*LEVELS, PATCHES):
        raise ValueError(f'level={level!r}: choose one of {", ".join((*LEVELS, PATCHES))}')
    checkpoint = read(path, prefix=prefix, encoder=encoder)
    weights = checkpoint.backbone(encoder)
    config = None if config is None else open_config(config)
    recipe = Recipe(config or {})
    cfg = _configured_backbone(recipe) if config else backbone_config(checkpoint, weights, heads)
    size = image_size or (_configured_size(recipe) if config else _pretraining_size(checkpoint, weights))
    if max(size if isinstance(size, tuple | list) else (size,)) > MAX_SIDE:
        raise ValueError(f'image_size={size!r}: at most {MAX_SIDE} pixels')
    if cfg['type'] in ('MoCoViT', 'mocox.MoCoViT') or cfg.get('img_size'):
        cfg['img_size'] = size
    if level == PATCHES and type_of(cfg) in ('MoCoViT', 'VisionTransformer'):
        cfg['out_type'] = 'featmap'
        cfg.pop('trim_last_block', None)
    with DefaultScope.overwrite_default_scope('mocox'):
        backbone = MODELS.build(cfg)
    report = load_backbone(backbone, checkpoint, encoder, heads=heads)
    notes = [note for note in report.notes if not note.startswith('trained on')]
    arch, meta = checkpoint.arch, checkpoint.meta
    told = arch.get('grid') or arch.get('img_size') or meta.get('image_size') or oblong(meta.get('img_size'))
    if not (config or image_size or told):
        notes.append(f'the file does not tell its image size: {size} pixels are used (--image-size says another)')
    projector = projector_of(checkpoint, report.encoder) if level == 'projector' else None
    preprocessor = recipe.preprocessor
    if not preprocessor and not checkpoint.meta.get('mean'):
        notes.append("the file does not tell its normalisation: ImageNet's is used (--config CFG says another)")
    normalisation = preprocessor or checkpoint.meta
    pixels = pixels_of(checkpoint, recipe)
    if not normalisation.get('mean') and pixels.num_channels != 3:
        raise ValueError(f'{path} does not tell the normalisation of its {pixels.num_channels} channels: {HINT}')
    model = Encoder(
        backbone,
        projector,
        mean=list(normalisation.get('mean') or IMAGENET['mean']),
        std=list(normalisation.get('std') or IMAGENET['std']),
        bgr=not preprocessor and checkpoint.meta.get('channel_order') == 'BGR',
        flip_prob=_flip_prob(recipe),
        patches=level == PATCHES,
    )
    if model.bgr:  # a file for BGR images states its constants in that order too
        model.data_preprocessor.mean = model.data_preprocessor.mean.flip(0)
        model.data_preprocessor.std = model.data_preprocessor.std.flip(0)
    test_crops = {} if image_size else recipe.test_crops
    train_crops = recipe.crops if recipe.is_labelled and not image_size else {}
    return LoadedEncoder(
        model.requires_grad_(False).eval(),
        dict(test_crops or evaluation_crops(size)),
        dict(train_crops or dict(type='RandomResizedCrops', size=size, scale=(0.08, 1.0), num_views=1)),
        size,
        checkpoint,
        report.encoder,
        notes,
        pixels,
    )


def pixels_of(checkpoint: Checkpoint, recipe: Recipe | None = None) -> Pixels:
    """The pixel settings of the config, else of the checkpoint, else those that its first convolution implies.

    Raises:
        ValueError: The setting has other channels than the weights.
    """
    stored = Pixels.from_settings(checkpoint.meta.get('pixels')).settings()
    own = Pixels.from_settings(recipe.dataset if recipe else {}).settings()
    measured = {name: value for name, value in stored.items() if name in ('auto_range', 'nodata', 'depth')}
    found = Pixels.from_settings(measured | own if own else stored)
    count = checkpoint.arch.get('in_channels', found.num_channels)
    named = (recipe.backbone if recipe else {}) or checkpoint.meta.get('backbone') or {}
    if type_of(named) in BUILT_BY_NAME:  # a hybrid one's patches are cut from a map of many channels
        count = named.get('in_channels', 3)
    if found == RGB and count != 3:
        return Pixels(channels=count)
    if found.num_channels != count:
        raise ValueError(
            f'{checkpoint.path} has weights for {count} channels and the images have {found.num_channels}: correct '
            'channels of the dataset in the config'
        )
    return found


def checkpoint_pixels(path: str | Path, config: str | Path | Config | None = None) -> Pixels:
    """See :func:`pixels_of`, for a file and a config as :func:`load_encoder` takes them."""
    return pixels_of(read(path), None if config is None else Recipe(open_config(config)))


def evaluation_crops(size: Size) -> dict:
    """Config of the published evaluation transform: the central 224 of 256 pixels; small images are kept whole."""
    sides = height_and_width(size)
    resize = sides if min(sides) <= SMALL_PX else tuple(round(side * 256 / 224) for side in sides)
    return dict(type='CenterCrop', size=size, resize=resize[0] if isinstance(size, int) else resize)


def _pretraining_size(checkpoint: Checkpoint, weights: Mapping[str, Tensor]) -> Size:
    arch = checkpoint.arch
    if pair := arch.get('img_size') or oblong(checkpoint.meta.get('img_size')):
        return tuple(pair)
    if size := checkpoint.meta.get('image_size'):
        return size
    if arch['family'] == 'vit' and arch['grid']:
        return arch['grid'] * arch['patch_size']
    is_cifar = 'conv1.weight' in weights and weights['conv1.weight'].shape[-1] == 3
    return 32 if is_cifar else 224


def _configured_backbone(recipe: Recipe) -> dict:
    if not recipe.backbone:
        raise ValueError(f'{getattr(recipe.config, "filename", None) or "the config"} has no model.backbone')
    # The checkpoint is loaded afterwards, completely.
    return {key: deepcopy(value) for key, value in recipe.backbone.items() if key != 'init_cfg'}


def _flip_prob(recipe: Recipe) -> float:
    """Return the probability of a mirrored crop in a linear evaluation; a pre-training config does not state it."""
    if not recipe.is_labelled:
        return 0.5
    return recipe.views[0].get('flip_prob', 0.0) if recipe.views else 0.0


def _configured_size(recipe: Recipe) -> Size:
    size = (recipe.test_crops or recipe.crops).get('size') or recipe.backbone.get('img_size') or 224
    return size if isinstance(size, int) else tuple(size)
