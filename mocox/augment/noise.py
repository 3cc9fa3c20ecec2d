"""Noise of a sensor, independent in every pixel and channel: a function of the sample's seed and the position."""

import math

import torch
from torch import Tensor

from mocox.augment.counters import normal
from mocox.augment.recipe import MAX_LEVEL

GAUSSIAN_STREAM, POISSON_STREAM = 100, 102  # each takes two
FEW = 4.0  # expected counts up to which their probabilities are added up
MAX_FEW = 18  # more than FEW expected ones give with a probability of 1e-7
SURE = 1 - 2e-6  # where the sum in float32 stops telling


def add_gaussian_noise(images: Tensor, numbers: Tensor) -> Tensor:
    """Add normal noise of mean 0 and a standard deviation drawn for each sample, and clip to 0 to 255.

    Source: the noise of read-out electronics; EMVA standard 1288.

    Args:
        numbers: (B, 3): standard deviation in levels, two words of the seed.
    """
    noise = normal(numbers[:, 1:].long(), GAUSSIAN_STREAM, images.shape[1:])
    return (images + numbers[:, :1, None, None] * noise).clamp(0, MAX_LEVEL)


def add_poisson_noise(images: Tensor, numbers: Tensor) -> Tensor:
    """Counts photons: a level x becomes 255 k / N, with k from the Poisson law of mean N x / 255, cut to 255.

    Source: shot noise; EMVA standard 1288.

    Args:
        numbers: (B, 3): photons N that make white, two words of the seed.
    """
    photons = numbers[:, :1, None, None]
    deviates = normal(numbers[:, 1:].long(), POISSON_STREAM, images.shape[1:])
    counts = poisson_quantile(images * (photons / MAX_LEVEL), deviates)
    return (counts * (MAX_LEVEL / photons)).clamp(max=MAX_LEVEL)


def poisson_quantile(mean: Tensor, deviates: Tensor) -> Tensor:
    """The counts of Poisson laws that stand where a standard normal deviate stands in its own law.

    Up to 4 expected counts probabilities are added up; beyond, an expansion in 1 / sqrt(mean), rounded down, which is
    one count off for two deviates in a thousand at most.

    Source: M. B. Giles, Approximation of the Inverse Poisson Cumulative Distribution Function, ACM TOMS 42 (2016).

    Args:
        mean: Expected counts, not negative.
        deviates: Normal deviates of the same shape.

    Returns:
        Whole numbers of that shape, float.
    """
    root, w = mean.clamp(min=FEW).sqrt(), deviates
    many = root * (root + w) + 1 / 3 + w**2 / 6 - (w / 36 + w**3 / 72) / root
    many = many + (-8 / 405 + 7 * w**2 / 810 + w**4 / 270) / root**2
    return torch.where(mean <= FEW, _few(mean, deviates), many.floor())


def _few(mean: Tensor, deviates: Tensor) -> Tensor:
    chance = (0.5 * torch.erfc(-deviates / math.sqrt(2))).clamp(max=SURE)
    weight = torch.exp(-mean.clamp(max=FEW))
    total, counts = weight, torch.zeros_like(mean)
    for count in range(1, MAX_FEW + 1):
        counts = counts + (chance > total)
        weight = weight * mean.clamp(max=FEW) / count
        total = total + weight
    return counts
