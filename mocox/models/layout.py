"""The output of a backbone: the last one, a map (B, C, H, W) or one vector (B, C) per image."""

from typing import Any

from torch import Tensor

_CURE = (
    'one map (B, C, H, W) or vector (B, C) per image is needed. MoCoViT: out_type="cls_token" or "avg_featmap"; '
    'mmpretrain has VisionTransformer and SwinTransformer; any model of timm: TIMMBackbone; a '
    'module of your own: PooledBackbone(module=..., pool="first" or "mean")'
)


def last_output(output: Any, name: str) -> Tensor:
    """The features: the output itself, or the last of a tuple or list, as OpenMMLab's backbones return them.

    Args:
        output: Of the backbone.
        name: Of the backbone.

    Raises:
        TypeError: Neither a tensor nor a tuple or list of tensors.
    """
    features = output[-1] if isinstance(output, tuple | list) and len(output) else output
    if not isinstance(features, Tensor):
        got = (
            f'{type(output).__name__} of {type(features).__name__}' if features is not output else type(output).__name__
        )
        raise TypeError(f'{name} gives a {got}: a tensor, or a tuple of tensors whose last one counts, is needed')
    return features


def require_layout(features: Tensor, images: Tensor, name: str) -> Tensor:
    """Return a backbone's features, or refuse them if their channels are last.

    Channels that come last are seen by the shape of the images: height and width of a map have the same ratio to
    theirs, to a cell, and channels have not.

    Args:
        features: Last output of the backbone.
        images: (B, 3, H, W), what it was given.
        name: Of the backbone.

    Raises:
        ValueError: Tokens (B, N, C), a map (B, H, W, C), or another shape.
    """
    shape = tuple(features.shape)
    if features.ndim and len(features) != len(images):
        raise ValueError(f'{name} gives features of shape {shape} for {len(images)} images: {_CURE}')
    if features.ndim not in (2, 4):
        kind = ', tokens (B, N, C)' if features.ndim == 3 else ''
        raise ValueError(f'{name} gives features of shape {shape}{kind}: {_CURE}')
    if features.ndim == 4 and not _fits(shape[2:], images) and _fits(shape[1:3], images):
        raise ValueError(f'{name} gives a map of shape {shape}, with its channels last (B, H, W, C): {_CURE}')
    return features


def _fits(sides: tuple[int, ...], images: Tensor) -> bool:
    height, width = images.shape[2:]
    return abs(sides[0] / height - sides[1] / width) <= 1 / min(height, width)
