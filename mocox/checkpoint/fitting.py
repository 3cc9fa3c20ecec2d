"""Fit tensors to a module of another image size or number of channels."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mocox.checkpoint.architecture import square_side
from mocox.checkpoint.contents import unwrap
from mocox.checkpoint.names import naming_of, to_ours


def fit_positions(
    weights: dict[str, Tensor], target: Mapping[str, Tensor], module: nn.Module, arch: Mapping
) -> tuple[dict[str, Tensor], list[str]]:
    """Interpolate position embeddings to the module's grid, class token kept."""
    wanted = to_ours(unwrap(target), naming_of(unwrap(target))).get('pos_embed')
    given = weights.get('pos_embed')
    if wanted is None or given is None or given.ndim != 3 or given.shape[2] != wanted.shape[2]:
        return weights, []
    new = _grid(module, wanted)
    num_prefix = wanted.shape[1] - new[0] * new[1] if new else 0  # timm gives the class token none beside registers
    old = _grid_of_file(arch, given.shape[1] - num_prefix)
    if new is None or old is None or new == old:
        return weights, []
    prefix, patches = given[:, :num_prefix], given[:, num_prefix:]
    grid = patches.float().mT.unflatten(2, old)  # (1, C, H, W)
    resized = torch.nn.functional.interpolate(grid, new, mode='bicubic', antialias=True).flatten(2).mT.to(given.dtype)
    note = f'position embeddings interpolated (bicubic) from {old[0]} x {old[1]} to {new[0]} x {new[1]} patches'
    return {**weights, 'pos_embed': torch.cat([prefix, resized], dim=1)}, [note]


def fit_channels(weights: dict[str, Tensor], target: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Adapt the first convolution to other channels of the image, as timm does.

    From 3 to N the kernels are repeated and scaled by 3 / N, to 1 they are summed; from 1, and back from N, the kernels
    are averaged over the channels that they come from, so that an image of equal channels gives the same features.
    """
    for key, wanted in target.items():
        given = weights.get(key)
        if given is None or given.ndim != 4:
            continue
        if given.shape[0] != wanted.shape[0] or given.shape[2:] != wanted.shape[2:]:
            return weights, []
        old, new = given.shape[1], wanted.shape[1]
        if old == new:
            return weights, []
        if 1 not in (old, new) and 3 not in (old, new):
            return weights, []
        adapted = adapt_channels(given, new)
        how = 'summed' if new == 1 else 'repeated and scaled' if old in (1, 3) else 'averaged and repeated'
        note = f'{key}: weights for {old} channels of the image {how} for {new}, as timm does from 3 to {new}'
        return {**weights, key: adapted}, [note]
    return weights, []


def adapt_channels(kernels: Tensor, channels: int) -> Tensor:
    """The kernels (O, I, h, w) of a first convolution for another number of channels, (O, channels, h, w)."""
    from timm.models import adapt_input_conv

    if kernels.shape[1] == 3:
        return adapt_input_conv(channels, kernels)
    total = kernels.float().sum(dim=1, keepdim=True)
    return (total / channels).repeat(1, channels, 1, 1).to(kernels.dtype)


def _grid_of_file(arch: Mapping, patches: int) -> tuple[int, int] | None:
    """Rows and columns of patches: as the file says, else a square."""
    if arch.get('img_size'):
        rows, columns = (side // arch['patch_size'] for side in arch['img_size'])
        return (rows, columns) if rows * columns == patches else None
    side = square_side(patches)
    return None if side is None else (side, side)


def _grid(module: nn.Module, pos_embed: Tensor) -> tuple[int, int] | None:
    """Rows and columns of patches: timm's attribute, mmcv's, mmseg's, or a square."""
    module = getattr(module, 'timm_model', module)
    without = getattr(module, 'no_embed_class', False)
    embed = getattr(module, 'patch_embed', None)
    patches = pos_embed.shape[1] - (0 if without else getattr(module, 'num_prefix_tokens', 1))
    candidates = [getattr(embed, 'grid_size', None), getattr(embed, 'init_out_size', None)]
    if isinstance(size := getattr(module, 'img_size', None), tuple) and isinstance(
        getattr(module, 'patch_size', None), int
    ):
        candidates.append(tuple(side // module.patch_size for side in size))
    if side := square_side(patches):
        candidates.append((side, side))
    return next((tuple(grid) for grid in candidates if grid and grid[0] * grid[1] == patches), None)
