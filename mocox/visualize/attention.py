"""Attention maps of a vision transformer: from its class token to the patches, by head."""

import math
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

OPACITY = 0.65  # brightness of the strongest attention in an overlay


@torch.no_grad()
def attention_maps(backbone: nn.Module, images: Tensor) -> Tensor:
    """Attention of the class token to each patch in the last block, as the softmax gives it.

    Args:
        backbone: A vision transformer whose blocks have ``attn.qkv`` and ``attn.num_heads``, as timm's, MoCoViT and
            mmpretrain's have. Left in the mode it was in.
        images: (B, 3, S, S), normalised.

    Returns:
        (B, heads, S / patch, S / patch); a head's numbers add up to 1 less what the class token gives itself.

    Raises:
        ValueError: The backbone has no such attention, or no class token before a grid of patches.
    """
    layers = [m for m in backbone.modules() if isinstance(getattr(m, 'qkv', None), nn.Linear)]
    name = type(backbone).__name__
    if not layers:
        raise ValueError(f'{name} has no attention to show: attention maps are for vision transformers')
    attention: Any = layers[-1]
    caught: list[Tensor] = []
    handle = attention.qkv.register_forward_hook(lambda module, inputs, output: caught.append(output))
    training = backbone.training
    backbone.eval()
    try:
        with torch.compiler.set_stance('force_eager'):  # compiled blocks do not call new hooks
            backbone(images)
    finally:
        handle.remove()
        backbone.train(training)
    qkv = caught[0].float()  # (B, 1 + patches, 3C); a window's tokens in place of patches in Swin
    grid = _grid(images.shape[2:], qkv.shape[1] - 1) if len(qkv) == len(images) else None
    if grid is None:
        raise ValueError(f'{name} has no class token before a grid of patches: its attention is not a map')
    q, k, _ = qkv.unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, 1 + patches, D)
    q, k = (getattr(attention, f'{part}_norm', nn.Identity())(x) for part, x in (('q', q), ('k', k)))
    weights = (q[:, :, :1] @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(dim=-1)
    return weights[:, :, 0, 1:].unflatten(2, grid)


def _grid(size: torch.Size, patches: int) -> tuple[int, int] | None:
    """Rows and columns of square patches that fill an image of this size (height, width)."""
    side = math.sqrt(size[0] * size[1] / patches) if patches > 0 else 0.0
    if side < 1 or not side.is_integer() or size[0] % side or size[1] % side:
        return None
    return int(size[0] // side), int(size[1] // side)


def overlay(image: np.ndarray, attention: Tensor) -> np.ndarray:
    """Attention (h, w) as light on a dimmed gray image (H, W, 3) uint8, the strongest patch brightest; the same shape.

    The colours are matplotlib's inferno, whose lightness rises evenly: it reads without colour vision too.
    """
    from matplotlib import colormaps  # slow to import

    weights = attention / attention.max().clamp(min=1e-12)
    heat = Image.fromarray(colormaps['inferno'](weights.cpu().numpy(), bytes=True)[:, :, :3])
    smooth = Image.Resampling.BICUBIC
    colours = np.asarray(heat.resize((image.shape[1], image.shape[0]), smooth)).astype(np.float32)
    gray = image.astype(np.float32).mean(axis=2, keepdims=True)
    return ((1 - OPACITY) * gray + OPACITY * colours).round().clip(0, 255).astype(np.uint8)
