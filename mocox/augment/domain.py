"""The operations of :class:`mocox.augment.options.DomainOptions`, and the numbers that a sample draws for them.

Each operation is a law on float images and a row of numbers (:data:`LAWS`), so that every executor runs the same. The
numbers are a function of the sample's seed, two of the uniform numbers that travel with it. The published operations
read others: their pictures stay as they are.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mocox.augment.channels import drop_channels, jitter_channels, jitter_stains, weigh_channels
from mocox.augment.counters import uniform
from mocox.augment.noise import add_gaussian_noise, add_poisson_noise
from mocox.augment.options import DOMAIN
from mocox.augment.orientation import flip_vertically, turn
from mocox.augment.recipe import Parameters, View

LAWS: dict[str, Callable[[Tensor, Tensor], Tensor]] = dict(
    stain_jitter=jitter_stains,
    channel_jitter=jitter_channels,
    weighted_grayscale=weigh_channels,
    channel_drop=drop_channels,
    poisson_noise=add_poisson_noise,
    gaussian_noise=add_gaussian_noise,
    vertical_flip=flip_vertically,
    quarter_turn=turn,
)


def draw_numbers(name: str, parameters: Parameters, view: View, num_channels: int) -> tuple[Tensor, Tensor]:
    """Draw which of B samples an operation changes, and the parameters of its law.

    Returns:
        (B,) bool, (B, K) float32; on the CPU.
    """
    seeds = parameters.seed
    if name == 'weighted_grayscale':
        return parameters.grayscale, _weights(view, num_channels).expand(len(seeds), -1)
    drawn = uniform(seeds, DOMAIN.index(name), (1 + _num_drawn(name, num_channels),))
    return drawn[:, 0] < getattr(view, f'{name}_prob'), _numbers(name, drawn[:, 1:], view, seeds)


def _num_drawn(name: str, num_channels: int) -> int:
    by_channels = dict(channel_jitter=2 * num_channels, channel_drop=1 + num_channels)
    return by_channels.get(name, dict(stain_jitter=6, vertical_flip=0).get(name, 1))


def _numbers(name: str, drawn: Tensor, view: View, seeds: Tensor) -> Tensor:
    """Maps uniform numbers (B, n) to those of a law."""
    if name == 'channel_jitter':
        strengths = view.channel_jitter or {}
        parts = zip(drawn.chunk(2, dim=1), ('brightness', 'contrast'), strict=True)
        return torch.cat([_factors(part, strengths.get(key, 0.0)) for part, key in parts], dim=1)
    if name == 'stain_jitter':
        strengths, (scale, shift) = view.stain_jitter or {}, drawn.chunk(2, dim=1)
        return torch.cat([_factors(scale, strengths.get('scale', 0)), strengths.get('shift', 0) * (2 * shift - 1)], 1)
    if name == 'channel_drop':
        return _kept(drawn, view.channel_drop).float()
    if name == 'quarter_turn':
        return 1 + (3 * drawn).floor()
    if name == 'gaussian_noise':
        low, high = view.gaussian_noise
        return torch.cat([low + drawn * (high - low), seeds], dim=1)
    if name == 'poisson_noise':
        low, high = (math.log(photons) for photons in view.poisson_noise)
        return torch.cat([(low + drawn * (high - low)).exp(), seeds], dim=1)
    return drawn


def _factors(drawn: Tensor, strength: float) -> Tensor:
    low = max(0.0, 1 - strength)
    return low + drawn * (1 + strength - low)


def _kept(drawn: Tensor, counts: tuple[int, int]) -> Tensor:
    """Drop the channels with the smallest numbers, as many as the first column says."""
    low, high = counts
    num = low + (drawn[:, :1] * (high - low + 1)).long()
    rank = drawn[:, 1:].argsort(dim=1, stable=True).argsort(dim=1)
    return rank >= num


def _weights(view: View, num_channels: int) -> Tensor:
    if view.grayscale_weights == 'mean':
        return torch.full((num_channels,), 1 / num_channels)
    weights = torch.tensor(view.grayscale_weights, dtype=torch.float32)
    return weights / weights.sum()
