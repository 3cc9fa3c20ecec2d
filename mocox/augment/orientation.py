"""Flips and turns for images without an upright orientation: seen from above, through a microscope, on a belt."""

import torch
from torch import Tensor


def flip_vertically(images: Tensor, numbers: Tensor) -> Tensor:
    """Mirror top and bottom.

    Source: with mirroring left and right and quarter turns, the symmetries of the square (group D4), as for tissue in
    Kang et al. (arXiv 2212.04690).

    Args:
        numbers: (B, 0).
    """
    return images.flip(-2)


def turn(images: Tensor, numbers: Tensor) -> Tensor:
    """Turn counter-clockwise by quarters, without resampling.

    Args:
        numbers: (B, 1): how many quarters, 1 to 3.

    Raises:
        ValueError: The images are not square.
    """
    if images.shape[2] != images.shape[3]:
        height, width = images.shape[2:]
        raise ValueError(f'quarter turns need square crops, these are {width} x {height}: set quarter_turn_prob=0')
    quarters = numbers[:, :, None, None]
    once, twice, thrice = (torch.rot90(images, count, dims=(2, 3)) for count in (1, 2, 3))
    return torch.where(quarters == 1, once, torch.where(quarters == 2, twice, thrice))
