"""Random numbers as a function of a seed and a position: the same on every device, in any batch and in any order.

What a recipe draws per sample fits into the uniform numbers that travel with it. Noise needs one number per pixel, and
a device's own generator would give others on a GPU than on a CPU, and others in another batch.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

WORD = 0xFFFFFFFF
RESOLUTION = 2.0**-24  # of a uniform float32
NUM_STREAMS = 128


def seeds_of(draws: Tensor) -> Tensor:
    """Two words of 24 bits, (B, 2) int64, from two uniform numbers (B, 2) of that resolution."""
    return (draws / RESOLUTION).long()


def uniform(seeds: Tensor, stream: int, shape: Sequence[int]) -> Tensor:
    """Independent uniform numbers from [0, 1), (B, *shape) float32.

    Each is a hash of the sample's two words, the stream and the position. All products stay below 2**63, so that
    nothing depends on how a device overflows.

    Args:
        seeds: (B, 2) int64, as :func:`seeds_of` gives them.
        stream: 0 to 127; two streams have nothing in common.
        shape: Shape of one sample's numbers, at most 2**32 of them.
    """
    first, second = seeds[:, :1], seeds[:, 1:]
    key = _mix(_mix(first | stream << 24) ^ second)
    other = _mix(_mix(second | (stream + NUM_STREAMS) << 24) ^ first)
    position = torch.arange(math.prod(shape), device=seeds.device)
    bits = _mix(_mix(position ^ key) ^ other) >> 8  # (B, P)
    return (bits.float() * RESOLUTION).view(-1, *shape)


def normal(seeds: Tensor, stream: int, shape: Sequence[int]) -> Tensor:
    """Independent numbers from the standard normal law, (B, *shape) float32, at most 5.8 in size.

    Source: Box and Muller, A Note on the Generation of Random Normal Deviates, 1958: two numbers from two uniform ones.
    Takes ``stream`` and the one after it.
    """
    num = math.prod(shape)
    half = (-(-num // 2),)
    radius = (-2 * torch.log1p(-uniform(seeds, stream, half))).sqrt()
    angle = 2 * math.pi * uniform(seeds, stream + 1, half)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :num].reshape(-1, *shape)


def _mix(word: Tensor) -> Tensor:
    """A bijection of 32 bits in which every bit of the input changes half of the output.

    Source: C. Wellons, Prospecting for Hash Functions, 2018, and the multipliers found since; public domain. Both are
    below 2**31.
    """
    word = (word ^ (word >> 16)) * 0x21F0AAAD & WORD
    word = (word ^ (word >> 15)) * 0x735A2D97 & WORD
    return word ^ (word >> 15)
