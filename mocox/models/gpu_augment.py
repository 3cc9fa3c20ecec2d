"""The photometric half of MoCo's augmentations, in batches, with parameters of its own for every sample.

Images are float tensors (B, 3, H, W) in RGB from 0 to 255. Nothing here draws a random number:
:func:`sample_parameters` maps uniform numbers that arrive with the samples to the parameters of a :class:`View`, on the
CPU, and :func:`augment` applies them. Since it is known on the CPU which samples need which operation, each runs on
those only, and the device never has to report back.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache, partial

import torch
from torch import Tensor

MAX_LEVEL = 255.0
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2, as in Pillow's convert('L')
JITTERS = ('brightness', 'contrast', 'saturation', 'hue')
# On the CPU even if this module is first imported while a model is built on the meta device. (24, 4)
JITTER_ORDERS = torch.tensor(list(itertools.permutations(range(len(JITTERS)))), device='cpu')
OPERATIONS = ('color_jitter', 'grayscale', 'blur', 'solarize', 'flip')
NUM_DRAWS_USED = 11


@dataclass(frozen=True)
class View:
    """How one view is augmented; the defaults leave it as it is.

    Source: BYOL (arXiv 2006.07733), appendix B, which MoCo v3 (arXiv 2104.02057) follows; MoCo v1 differs in ``order``.

    Args:
        color_jitter: Strengths x of ``brightness``, ``contrast``, ``saturation`` (factors from [max(0, 1 - x), 1 + x])
            and ``hue`` (shift from [-x, x] of the colour circle); those left out are 0. They run in random order.
        blur_sigma: Smallest and largest standard deviation in pixels.
        solarize_threshold: Levels from here on are inverted.
        order: The operations in the order of their application.
    """

    color_jitter: dict[str, float] | None = None
    color_jitter_prob: float = 1.0
    grayscale_prob: float = 0.0
    blur_prob: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize_prob: float = 0.0
    solarize_threshold: float = 128.0
    flip_prob: float = 0.0
    order: tuple[str, ...] = OPERATIONS

    @classmethod
    def from_config(cls, config: dict) -> 'View':
        """Builds a view from the dictionary in a config.

        Raises:
            TypeError: A key is unknown.
        """
        _refuse_unknown('a view', config, [field.name for field in fields(cls)])
        return cls(**config)

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name.endswith('_prob')):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f'{name} must be a probability between 0 and 1, got {getattr(self, name)!r}')
        strengths = self.color_jitter or {}
        _refuse_unknown('color_jitter', strengths, JITTERS)
        for name, strength in strengths.items():
            largest = 0.5 if name == 'hue' else math.inf
            if not 0 <= strength <= largest:
                raise ValueError(f'color_jitter.{name} must lie between 0 and {largest}, got {strength!r}')
        low, high = self.blur_sigma
        if not 0 < low <= high:
            raise ValueError(f'blur_sigma must be (low, high) with 0 < low <= high, got {self.blur_sigma!r}')
        if sorted(self.order) != sorted(OPERATIONS):
            raise ValueError(f'order must name each of {list(OPERATIONS)} once, got {list(self.order)}')


@dataclass(frozen=True)
class Parameters:
    """What happens to each of B samples; CPU tensors.

    ``jitter``, ``grayscale``, ``blur``, ``solarize``, ``flip`` (B,) bool: whether; ``factors`` (B, 4): of
    :data:`JITTERS`; ``jitter_order`` (B, 4): the operation at each position; ``sigma`` (B,) pixels.
    """

    jitter: Tensor
    factors: Tensor
    jitter_order: Tensor
    grayscale: Tensor
    blur: Tensor
    sigma: Tensor
    solarize: Tensor
    flip: Tensor


def sample_parameters(draws: Tensor, view: View) -> Parameters:
    """Maps uniform numbers to parameters, each column to the same one always.

    Args:
        draws: (B, P) from [0, 1), P >= 11.
    """
    if draws.ndim != 2 or draws.shape[1] < NUM_DRAWS_USED:
        raise ValueError(f'draws must be (B, P) with P >= {NUM_DRAWS_USED}, got {tuple(draws.shape)}')
    strength = torch.tensor([(view.color_jitter or {}).get(name, 0.0) for name in JITTERS])
    centre = torch.tensor([1.0, 1.0, 1.0, 0.0])
    low = torch.where(centre > 0, (centre - strength).clamp(min=0), -strength)
    min_sigma, max_sigma = view.blur_sigma
    return Parameters(
        jitter=(draws[:, 0] < view.color_jitter_prob) & bool(strength.any()),
        factors=low + draws[:, 1:5] * (centre + strength - low),
        jitter_order=JITTER_ORDERS[(draws[:, 5] * len(JITTER_ORDERS)).long()],
        grayscale=draws[:, 6] < view.grayscale_prob,
        blur=draws[:, 7] < view.blur_prob,
        sigma=min_sigma + draws[:, 8] * (max_sigma - min_sigma),
        solarize=draws[:, 9] < view.solarize_prob,
        flip=draws[:, 10] < view.flip_prob,
    )


def augment(images: Tensor, parameters: Parameters, view: View) -> Tensor:
    """Applies the operations of a view in its order.

    Args:
        images: (B, 3, H, W) float, 0 to 255; may be overwritten.

    Returns:
        (B, 3, H, W), 0 to 255.
    """
    p = parameters
    blur = partial(gaussian_blur, max_sigma=view.blur_sigma[1])
    invert = partial(solarize, threshold=view.solarize_threshold)
    operations = dict(
        color_jitter=lambda x: color_jitter(x, p.jitter, p.factors, p.jitter_order),
        grayscale=lambda x: _apply(to_grayscale, x, p.grayscale),
        blur=lambda x: _apply(blur, x, p.blur, p.sigma),
        solarize=lambda x: _apply(invert, x, p.solarize),
        flip=lambda x: _apply(horizontal_flip, x, p.flip),
    )
    for name in view.order:
        images = operations[name](images)
    return images


def color_jitter(images: Tensor, chosen: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue in an order of its own for every sample, clamped after each.

    The first three are blends of the image with something gray, so one pass does them for the whole batch; the samples
    whose turn is hue are taken out.

    Args:
        chosen: (B,) bool, CPU: which samples take part.
        factors: (B, 4), CPU: factors of brightness, contrast, saturation; shift of hue in turns.
        order: (B, 4) long, CPU: the operation (0 to 3) at each position.
    """
    if not chosen.any():
        return images
    for position in range(len(JITTERS)):
        operation = order[:, position]
        factor = factors.gather(1, operation[:, None])[:, 0]
        images = _blend_with_gray(images, torch.where(chosen, operation, 3), factor)
        images = _apply(adjust_hue, images, chosen & (operation == 3) & (factor != 0), factor)
    return images


def _blend_with_gray(images: Tensor, operation: Tensor, factor: Tensor) -> Tensor:
    """Brightness (0: with black), contrast (1: with the mean luma), saturation (2: with the luma), or nothing (3).

    Both arguments (B,), CPU.
    """
    factor = torch.where(operation < 3, factor, 1)
    if (factor == 1).all():
        return images
    weights = torch.stack([factor, (operation == 1).to(factor), (operation == 2).to(factor)]).to(images.dtype)
    factor, is_contrast, is_saturation = _to_device(weights, images)[..., None, None, None]
    gray = luma(images)  # (B, 1, H, W)
    target = gray * is_saturation + gray.mean(dim=(1, 2, 3), keepdim=True) * is_contrast
    return torch.lerp(target, images, factor).clamp_(0, MAX_LEVEL)  # exactly the image where the factor is 1


def luma(images: Tensor) -> Tensor:
    """Brightness as the eye sees it, (B, 1, H, W)."""
    red, green, blue = images.split(1, dim=1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turns the hue in HSV, which keeps the largest channel (value) and the smallest (value minus chroma).

    Args:
        shift: (B,) in turns of the colour circle, 0 keeps the image.
    """
    value, chroma, hue = _to_hue(images)
    sector = 6 * shift[:, None] + torch.tensor([5, 3, 1])  # (B, 3): what each channel adds to the hue
    sector = _to_device(sector.to(images.dtype), images)[..., None, None]
    distance = (hue + sector).remainder_(6)  # (B, 3, H, W), in sixths of the circle
    distance = torch.minimum(distance, 4 - distance).clamp_(0, 1)
    return torch.addcmul(value, chroma, distance, value=-1).clamp_(0, MAX_LEVEL)


def _to_hue(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value, chroma (both in levels) and hue (in sixths of the circle), each (B, 1, H, W)."""
    red, green, blue = images.split(1, dim=1)
    value = images.amax(dim=1, keepdim=True)
    chroma = value - images.amin(dim=1, keepdim=True)
    scale = torch.where(chroma > 0, chroma, 1)  # gray pixels have no hue, and need none
    hue = torch.where(
        value == red,
        (green - blue) / scale,
        torch.where(value == green, (blue - red) / scale + 2, (red - green) / scale + 4),
    )
    return value, chroma, hue


def to_grayscale(images: Tensor) -> Tensor:
    """Replaces the three channels by their luma."""
    return luma(images).expand_as(images)


def gaussian_blur(images: Tensor, sigma: Tensor, max_sigma: float) -> Tensor:
    """A true Gaussian with a width of its own for every sample, cut at ``ceil(3 * max_sigma)`` pixels.

    The border is replicated, as in Pillow. Written as one matrix product per axis, which both a CPU and a GPU do at
    full speed; convolutions with a kernel per sample run at a fraction of it.

    Args:
        sigma: (B,) in pixels, at most ``max_sigma``.
    """
    radius = math.ceil(3 * max_sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype)
    weights = torch.softmax(-0.5 * (offsets / sigma.to(images.dtype)[:, None]) ** 2, dim=1)  # (B, 2 radius + 1)
    weights = _to_device(weights, images)
    batch, _, height, width = images.shape
    matrices = {
        side: (weights @ _shifts(side, radius, images.dtype, images.device)).view(batch, side, side)
        for side in {height, width}
    }
    blurred = images.flatten(1, 2) @ matrices[width].mT  # (B, 3 H, W), along the lines
    return matrices[height][:, None] @ blurred.view_as(images)


@lru_cache(maxsize=8)
def _shifts(side: int, radius: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """For each offset the matrix that shifts a line of pixels by it, border replicated, (2 radius + 1, side * side)."""
    position = torch.arange(side)
    source = (position + torch.arange(-radius, radius + 1)[:, None]).clamp(0, side - 1)  # (2 radius + 1, side)
    return torch.nn.functional.one_hot(source, side).to(device=device, dtype=dtype).flatten(1)


def solarize(images: Tensor, threshold: float = 128.0) -> Tensor:
    """Inverts the levels from ``threshold`` on."""
    return torch.where(images < threshold, images, MAX_LEVEL - images)


def horizontal_flip(images: Tensor) -> Tensor:
    """Mirrors left and right."""
    return images.flip(-1)


def _apply(operation: Callable[..., Tensor], images: Tensor, chosen: Tensor, *parameters: Tensor) -> Tensor:
    """Runs an operation on the chosen samples only, writing into ``images``; the masks and parameters (B,) are CPU."""
    if chosen.all():
        return operation(images, *parameters)
    index = chosen.nonzero()[:, 0]
    if not len(index):
        return images
    part = [parameter[index] for parameter in parameters]
    index = _to_device(index, images)
    return images.index_copy_(0, index, operation(images.index_select(0, index), *part))


def _to_device(values: Tensor, images: Tensor) -> Tensor:
    """Copies a few numbers to where the images are, without making the CPU wait for the device."""
    if images.device.type == 'cuda' and values.device.type == 'cpu':
        values = values.pin_memory()
    return values.to(images.device, non_blocking=True)


def _refuse_unknown(what: str, config: dict, known: list[str] | tuple[str, ...]) -> None:
    unknown = sorted(set(config) - set(known))
    if unknown:
        raise TypeError(f'{what} has no key {", ".join(map(repr, unknown))}; it knows {", ".join(known)}')
