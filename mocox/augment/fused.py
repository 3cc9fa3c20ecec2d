"""The photometric operations on a batch as one function of fixed shapes, which ``torch.compile`` makes few kernels of.

The pictures are those of :mod:`mocox.augment.batched`. There an operation runs on the samples that need it; here all
run on all, with parameters that change nothing where a sample does not take part. So nothing depends on the numbers
but the result: no index lists, no branches, one program for every batch, and no value is read back from the device.
Mirroring commutes with every published operation, so it happens as the pixels are read.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from mocox.augment.batched import to_device, whole_mean
from mocox.augment.domain import LAWS, draw_numbers
from mocox.augment.kernels import blur_weights
from mocox.augment.recipe import JITTERS, LUMA, MAX_LEVEL, PILLOW_LUMA, Parameters, View, blur_radius

COLORS = ('color_jitter', 'grayscale')
NOTHING = -1  # in place of a jitter
FIRST_WEIGHT = 15  # column of the packed parameters


class Plan(NamedTuple):
    """The part of a view that is compiled into the program; everything else is passed as data."""

    order: tuple[str, ...]
    jitters: tuple[str, ...]
    radius: int
    whole: bool = False


def plan_of(view: View) -> Plan:
    """The operations that a view can need, and how wide its blur can be."""
    jitters = tuple(name for name in JITTERS if (view.color_jitter or {}).get(name, 0) > 0)
    prob = dict(
        color_jitter=bool(jitters) * view.color_jitter_prob,
        grayscale=view.grayscale_prob,
        blur=view.blur_prob,
        solarize=view.solarize_prob,
        flip=view.flip_prob,
    )
    prob |= dict.fromkeys(view.domain_steps, 1.0)
    if view.grayscale_weights is not None:
        prob['weighted_grayscale'] = view.grayscale_prob
    return Plan(
        tuple(name for name in view.steps if prob.get(name, 0) > 0),
        jitters,
        blur_radius(view),
        view.rounding == 'pillow',
    )


def pack_parameters(parameters: Parameters, view: View) -> Tensor:
    """All numbers of B samples in one array, for one copy to the device.

    Returns:
        (B, 15 + 2 radius + 1) on the CPU: the jitter at each of the four positions, the same only up to contrast, the
        factor at each position, grayscale, level of solarisation, flip, weights of the blur.
    """
    p, radius = parameters, blur_radius(view)
    order = torch.where(p.jitter[:, None], p.jitter_order, NOTHING)
    until_contrast = torch.where((order == JITTERS.index('contrast')).cumsum(1) > 0, NOTHING, order)
    factors = torch.where(order == NOTHING, 1, p.factors.gather(1, p.jitter_order))
    never = torch.tensor(2 * MAX_LEVEL)
    switches = torch.stack([p.grayscale, torch.where(p.solarize, view.solarize_threshold, never), p.flip], 1)
    weights = blur_weights(p.sigma, radius, view.blur_kernel)
    weights = torch.where(p.blur[:, None], weights, one_hot(torch.tensor(radius), 2 * radius + 1))
    return torch.cat([order, until_contrast, factors, switches, weights], 1).float()


def pack_numbers(parameters: Parameters, view: View, num_channels: int, device: torch.device) -> dict[str, Tensor]:
    """Pack the parameters of the laws of :mod:`mocox.augment.domain`, in one copy to the device.

    Returns:
        For each operation of the view (B, 1 + K): whether, and the numbers of its law.
    """
    names = [name for name in plan_of(view).order if name in LAWS]
    if not names:
        return {}
    drawn = [draw_numbers(name, parameters, view, num_channels) for name in names]
    parts = [torch.cat([chosen[:, None].float(), numbers], dim=1) for chosen, numbers in drawn]
    packed = to_device(torch.cat(parts, dim=1), torch.empty(0, device=device))
    return dict(zip(names, packed.split([part.shape[1] for part in parts], dim=1), strict=True))


def augment_fused(
    images: Tensor,
    packed: Tensor,
    mean: Tensor,
    std: Tensor,
    plan: Plan,
    numbers: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Apply the operations of a view in its order, and normalises.

    Args:
        images: (B, C, H, W) uint8 or float, 0 to 255. Colours need C = 3.
        packed: Result of :func:`pack_parameters`, on the images' device.
        mean: (C, 1, 1) levels.
        std: (C, 1, 1) levels.
        plan: Plan of the view.
        numbers: Result of :func:`pack_numbers`.

    Returns:
        (B, C, H, W) float32.
    """
    columns = packed[:, :, None, None].unbind(1)  # each (B, 1, 1)
    _, threshold, flip = (column[:, None] for column in columns[12:FIRST_WEIGHT])
    numbers = numbers or {}
    early = 'flip' in plan.order and not numbers  # noise and turns do not commute with it
    if early:
        images = torch.where(flip > 0, images.flip(-1), images)
    images = images.float()
    for colors, names in groupby(plan.order, key=COLORS.__contains__):
        if colors:
            images = torch.stack(list(_change_colors(images.unbind(1), columns, tuple(names), plan)), 1)
            continue
        for name in names:
            if name == 'blur':
                images = _blur(images, [column[:, None] for column in columns[FIRST_WEIGHT:]], plan.radius)
                images = images.round() if plan.whole else images
            elif name == 'solarize':
                images = torch.where(images < threshold, images, MAX_LEVEL - images)
            elif name == 'flip' and not early:
                images = torch.where(flip > 0, images.flip(-1), images)
            elif name in numbers:
                chosen = numbers[name][:, :1, None, None] > 0
                images = torch.where(chosen, LAWS[name](images, numbers[name][:, 1:]), images)
    return (images - mean) / std


@lru_cache(maxsize=16)
def compiled(plan: Plan) -> Callable[..., Tensor]:
    """:func:`augment_fused` for one plan, compiled at its first call for the shape that it meets."""
    return torch.compile(partial(augment_fused, plan=plan), dynamic=False)


def fuse(images: Tensor, parameters: Parameters, view: View, mean: Tensor, std: Tensor) -> Tensor:
    """:func:`mocox.augment.batched.augment` and normalisation, compiled; takes uint8 and overwrites nothing."""
    packed = to_device(pack_parameters(parameters, view), images)
    numbers = pack_numbers(parameters, view, images.shape[1], images.device)
    return compiled(plan_of(view))(images, packed, mean, std, numbers=numbers)


def _change_colors(
    rgb: Sequence[Tensor], columns: Sequence[Tensor], names: Sequence[str], plan: Plan
) -> Sequence[Tensor]:
    """Jitter and grayscale in the given order, on three channels (B, H, W): of one shape, so one loop does it all."""
    for name in names:
        if name == 'color_jitter':
            rgb = _jitter(rgb, columns, plan)
        else:
            gray = _luma(rgb, plan.whole)
            rgb = [torch.where(columns[12] > 0, gray, channel) for channel in rgb]
    return rgb


def _jitter(rgb: Sequence[Tensor], columns: Sequence[Tensor], plan: Plan) -> Sequence[Tensor]:
    """The colours are computed twice, up to contrast for the mean that it needs: cheaper than keeping them."""
    order, until_contrast, factors = columns[:4], columns[4:8], columns[8:12]
    mean: Tensor | float = 0.0
    if 'contrast' in plan.jitters:  # at the fourth position at the latest
        gray = _luma(_chain(rgb, until_contrast[:3], factors, 0.0, plan), plan.whole)
        mean = whole_mean(gray[:, None])[:, 0] if plan.whole else gray.mean((1, 2), keepdim=True)
    return _chain(rgb, order, factors, mean, plan)


def _chain(
    rgb: Sequence[Tensor],
    order: Sequence[Tensor],
    factors: Sequence[Tensor],
    mean: Tensor | float,
    plan: Plan,
) -> Sequence[Tensor]:
    """Jitters one after the other, each position for all samples; ``mean`` is what contrast blends with."""
    for operation, factor in zip(order, factors, strict=False):
        results, luma = [*rgb], _luma(rgb, plan.whole)
        for name, gray in (('brightness', 0.0), ('contrast', mean), ('saturation', luma)):
            if name in plan.jitters:
                chosen = operation == JITTERS.index(name)
                blended = [(gray + factor * (channel - gray)).clamp(0, MAX_LEVEL) for channel in rgb]
                blended = [channel.floor() for channel in blended] if plan.whole else blended
                results = [torch.where(chosen, new, old) for new, old in zip(blended, results, strict=True)]
        if 'hue' in plan.jitters:
            chosen, turned = operation == JITTERS.index('hue'), _turn_hue(rgb, factor)
            turned = [channel.round() for channel in turned] if plan.whole else turned
            results = [torch.where(chosen, new, old) for new, old in zip(turned, results, strict=True)]
        rgb = results
    return rgb


def _turn_hue(rgb: Sequence[Tensor], shift: Tensor) -> list[Tensor]:
    """See :func:`mocox.augment.batched.adjust_hue`."""
    red, green, blue = rgb
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    scale = torch.where(chroma > 0, chroma, 1)
    from_blue = torch.where(value == green, (blue - red) / scale + 2, (red - green) / scale + 4)
    hue = torch.where(value == red, (green - blue) / scale, from_blue) + 6 * shift
    distances = [(hue + sector).remainder(6) for sector in (5, 3, 1)]
    return [value - chroma * torch.minimum(distance, 4 - distance).clamp(0, 1) for distance in distances]


def _luma(rgb: Sequence[Tensor], whole: bool) -> Tensor:
    red, green, blue = rgb
    if whole:
        return (PILLOW_LUMA[0] * red + PILLOW_LUMA[1] * green + PILLOW_LUMA[2] * blue + 0.5).floor()
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def _blur(images: Tensor, weights: Sequence[Tensor], radius: int) -> Tensor:
    """A weighted sum of shifted images along each axis."""
    for axis, sides in ((3, (radius, radius, 0, 0)), (2, (0, 0, radius, radius))):
        size, padded = images.shape[axis], pad(images, sides, mode='replicate')
        images = weights[0] * padded.narrow(axis, 0, size)
        for k in range(1, len(weights)):
            images = images + weights[k] * padded.narrow(axis, k, size)
    return images
