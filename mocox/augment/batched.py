"""The photometric half of MoCo's augmentations, in batches, with parameters of its own for every sample.

Images are float tensors (B, 3, H, W) in RGB from 0 to 255. Nothing here draws a random number: :func:`augment` applies
the parameters that :func:`mocox.augment.recipe.sample_parameters` read from a sample's uniform numbers, on the CPU.
Since it is known there which samples need which operation, each runs on those only, and the device never has to report
back.
"""

from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import Tensor

from mocox.augment.domain import LAWS, draw_numbers
from mocox.augment.kernels import blur_weights
from mocox.augment.recipe import JITTERS, LUMA, MAX_LEVEL, PILLOW_LUMA, Parameters, View, blur_radius


def augment(images: Tensor, parameters: Parameters, view: View) -> Tensor:
    """Apply the operations of a view in its order.

    Args:
        images: (B, C, H, W) float, 0 to 255; may be overwritten. Colours need C = 3.

    Returns:
        (B, C, H, W), 0 to 255.
    """
    p = parameters
    whole = view.rounding == 'pillow'
    blur = partial(_whole_blur if whole else gaussian_blur, radius=blur_radius(view), kernel=view.blur_kernel)
    invert = partial(solarize, threshold=view.solarize_threshold)
    operations = dict(
        color_jitter=lambda x: color_jitter(x, p.jitter, p.factors, p.jitter_order, whole),
        grayscale=lambda x: _apply(partial(to_grayscale, whole=whole), x, p.grayscale),
        blur=lambda x: _apply(blur, x, p.blur, p.sigma),
        solarize=lambda x: _apply(invert, x, p.solarize),
        flip=lambda x: _apply(horizontal_flip, x, p.flip),
    )
    for name in view.steps:
        if name in LAWS:
            law = partial(_on_device, LAWS[name])
            images = _apply(law, images, *draw_numbers(name, p, view, images.shape[1]))
        else:
            images = operations[name](images)
    return images


def color_jitter(images: Tensor, chosen: Tensor, factors: Tensor, order: Tensor, whole: bool = False) -> Tensor:
    """Brightness, contrast, saturation and hue in an order of its own for every sample, clamped after each.

    The first three are blends of the image with something gray, so one pass does them for the whole batch; the samples
    whose turn is hue are taken out.

    Args:
        chosen: (B,) bool, CPU: which samples take part.
        factors: (B, 4), CPU: factors of brightness, contrast, saturation; shift of hue in turns.
        order: (B, 4) long, CPU: the operation (0 to 3) at each position.
        whole: Make whole levels after each, as Pillow does.
    """
    hue = _whole_hue if whole else adjust_hue
    if not chosen.any():
        return images
    for position in range(len(JITTERS)):
        operation = order[:, position]
        factor = factors.gather(1, operation[:, None])[:, 0]
        images = _blend_with_gray(images, torch.where(chosen, operation, 3), factor, whole)
        images = _apply(hue, images, chosen & (operation == 3) & (factor != 0), factor)
    return images


def _blend_with_gray(images: Tensor, operation: Tensor, factor: Tensor, whole: bool) -> Tensor:
    """Brightness (0: with black), contrast (1: with the mean luma), saturation (2: with the luma), or nothing (3).

    Both arguments (B,), CPU.
    """
    factor = torch.where(operation < 3, factor, 1)
    if (factor == 1).all():
        return images
    weights = torch.stack([factor, (operation == 1).to(factor), (operation == 2).to(factor)]).to(images.dtype)
    factor, is_contrast, is_saturation = to_device(weights, images)[..., None, None, None]
    if whole:
        gray = whole_luma(images)
        target = gray * is_saturation + whole_mean(gray) * is_contrast
        return images.sub_(target).mul_(factor).add_(target).clamp_(0, MAX_LEVEL).floor_()
    gray = luma(images)  # (B, 1, H, W)
    target = gray * is_saturation + gray.mean(dim=(1, 2, 3), keepdim=True) * is_contrast
    return torch.lerp(target, images, factor).clamp_(0, MAX_LEVEL)  # exactly the image where the factor is 1


def luma(images: Tensor) -> Tensor:
    """Brightness as the eye sees it, (B, 1, H, W)."""
    red, green, blue = images.split(1, dim=1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def whole_luma(images: Tensor) -> Tensor:
    """Pillow's, in whole levels, (B, 1, H, W): every term and sum is exact in float32."""
    red, green, blue = images.split(1, dim=1)
    gray = (red * PILLOW_LUMA[0]).add_(green, alpha=PILLOW_LUMA[1]).add_(blue, alpha=PILLOW_LUMA[2])
    return gray.add_(0.5).floor_()


def whole_mean(gray: Tensor) -> Tensor:
    """The mean of whole levels (B, 1, H, W), rounded half up, (B, 1, 1, 1)."""
    total, num = gray.sum(dim=(1, 2, 3), keepdim=True, dtype=torch.int64), gray[0].numel()
    return ((2 * total + num) // (2 * num)).to(gray.dtype)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue in HSV, which keeps the largest channel (value) and the smallest (value minus chroma).

    Args:
        shift: (B,) in turns of the colour circle, 0 keeps the image.
    """
    value, chroma, hue = _to_hue(images)
    sector = 6 * shift[:, None] + torch.tensor([5, 3, 1])  # (B, 3): what each channel adds to the hue
    sector = to_device(sector.to(images.dtype), images)[..., None, None]
    distance = (hue + sector).remainder_(6)  # (B, 3, H, W), in sixths of the circle
    distance = torch.minimum(distance, 4 - distance).clamp_(0, 1)
    return torch.addcmul(value, chroma, distance, value=-1).clamp_(0, MAX_LEVEL)


def _whole_hue(images: Tensor, shift: Tensor) -> Tensor:
    return adjust_hue(images, shift).round_()


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


def to_grayscale(images: Tensor, whole: bool = False) -> Tensor:
    """Replace the three channels by their luma, each in memory of its own: the next operation may write into them."""
    return (whole_luma if whole else luma)(images).expand_as(images).clone()


def gaussian_blur(images: Tensor, sigma: Tensor, radius: int, kernel: str = 'gaussian') -> Tensor:
    """A Gaussian with a width of its own for every sample, cut at ``radius`` pixels.

    The border is replicated, as in Pillow. Written as one matrix product per axis, which both a CPU and a GPU do at
    full speed; convolutions with a kernel per sample run at a fraction of it.

    Args:
        sigma: (B,) in pixels.
        kernel: See :func:`mocox.augment.kernels.blur_weights`.
    """
    weights = to_device(blur_weights(sigma.to(images.dtype), radius, kernel), images)  # (B, 2 radius + 1)
    batch, _, height, width = images.shape
    matrices = {
        side: (weights @ _shifts(side, radius, images.dtype, images.device)).view(batch, side, side)
        for side in {height, width}
    }
    blurred = images.flatten(1, 2) @ matrices[width].mT  # (B, 3 H, W), along the lines
    return matrices[height][:, None] @ blurred.view_as(images)


def _whole_blur(images: Tensor, sigma: Tensor, radius: int, kernel: str) -> Tensor:
    return gaussian_blur(images, sigma, radius, kernel).round_()


@lru_cache(maxsize=8)
def _shifts(side: int, radius: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """For each offset the matrix that shifts a line of pixels by it, border replicated, (2 radius + 1, side * side)."""
    position = torch.arange(side)
    source = (position + torch.arange(-radius, radius + 1)[:, None]).clamp(0, side - 1)  # (2 radius + 1, side)
    return torch.nn.functional.one_hot(source, side).to(device=device, dtype=dtype).flatten(1)


def solarize(images: Tensor, threshold: float = 128.0) -> Tensor:
    """Invert the levels from ``threshold`` on."""
    return torch.where(images < threshold, images, MAX_LEVEL - images)


def horizontal_flip(images: Tensor) -> Tensor:
    """Mirror left and right."""
    return images.flip(-1)


def _apply(operation: Callable[..., Tensor], images: Tensor, chosen: Tensor, *parameters: Tensor) -> Tensor:
    """Run an operation on the chosen samples only, writing into ``images``; the masks and parameters (B,) are CPU."""
    if chosen.all():
        return operation(images, *parameters)
    index = chosen.nonzero()[:, 0]
    if not len(index):
        return images
    part = [parameter[index] for parameter in parameters]
    index = to_device(index, images)
    return images.index_copy_(0, index, operation(images.index_select(0, index), *part))


def _on_device(law: Callable[[Tensor, Tensor], Tensor], images: Tensor, numbers: Tensor) -> Tensor:
    return law(images, to_device(numbers, images))


def to_device(values: Tensor, images: Tensor) -> Tensor:
    """Copy a few numbers to the images' device without a host sync."""
    if images.device.type == 'cuda' and values.device.type == 'cpu':
        values = values.pin_memory()
    return values.to(images.device, non_blocking=True)
