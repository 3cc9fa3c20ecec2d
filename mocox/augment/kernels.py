"""The weights of the blur along a line: a true Gaussian, or the three box filters that Pillow takes for one."""

import math

import torch
from torch import Tensor
from torch.nn.functional import conv1d

KERNELS = ('gaussian', 'boxes')
NUM_BOXES = 3


def kernel_radius(sigma: float, kernel: str) -> int:
    """Pixels that the weights reach: a Gaussian is cut off at three standard deviations, boxes end by themselves."""
    if kernel == 'gaussian':
        return math.ceil(3 * sigma)
    return NUM_BOXES * math.ceil(_box_radius(torch.tensor([sigma], dtype=torch.float64)).item())


def blur_weights(sigma: Tensor, radius: int, kernel: str) -> Tensor:
    """The weights of each sample, which sum to 1.

    Args:
        sigma: (B,) standard deviations in pixels.
        radius: Pixels to either side, see :func:`kernel_radius` of the largest one.
        kernel: One of :data:`KERNELS`.

    Returns:
        (B, 2 radius + 1), in the type of ``sigma``.
    """
    if kernel == 'gaussian':
        offsets = torch.arange(-radius, radius + 1, dtype=sigma.dtype)
        return torch.softmax(-0.5 * (offsets / sigma[:, None]) ** 2, dim=1)
    reach = radius // NUM_BOXES
    size = _box_radius(sigma.double())[:, None]  # whole pixels, and a share of the next
    box = (size + 1 - torch.arange(-reach, reach + 1).abs()).clamp(0, 1) / (2 * size + 1)
    weights = box
    for _ in range(NUM_BOXES - 1):
        weights = conv1d(weights[None], box[:, None], padding=2 * reach, groups=len(box))[0]
    return weights.to(sigma.dtype)


def _box_radius(sigma: Tensor) -> Tensor:
    """Radius of the extended box that, applied three times, has the variance of the Gaussian.

    Source: Gwosdek et al., "Theoretical foundations of Gaussian convolution by extended box filtering", 2011, which
    Pillow follows.
    """
    variance = sigma**2 / NUM_BOXES
    whole = ((torch.sqrt(12 * variance + 1) - 1) / 2).floor()
    share = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    return whole + share
