"""Sizes of images, and how one is brought to another: antialiased, to a level equal to Pillow."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Size = int | tuple[int, int]  # the side of a square, or (height, width)
MAX_ELONGATION = 16  # long side by short side up to which an image is resized as a whole


def as_tensor(image: np.ndarray) -> Tensor:
    """(H, W, C) as (C, H, W), stored as before."""
    return torch.from_numpy(image).permute(2, 0, 1)  # (C, H, W), a view


def resize_to(image: np.ndarray, size: tuple[int, int], interpolation: str) -> Tensor:
    """Antialiased resize of an (H, W, C) image, uint8 in integers; (C, H, W), stored as the image is."""
    if image.shape[:2] == size:
        return as_tensor(image)
    # The batch of one is made by torch and before the axes are swapped: else it does not see that channels come last.
    batch = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
    if image.dtype == np.uint8:
        return F.interpolate(batch, size=size, mode=interpolation, antialias=True)[0]
    top = 65535 if image.dtype == np.uint16 else 255
    resized = F.interpolate(batch.float(), size=size, mode=interpolation, antialias=True)[0].clamp_(0, top)
    return resized.round_().to(torch.uint16) if image.dtype == np.uint16 else resized


def cut_long(image: np.ndarray, elongation: float = 1.0) -> np.ndarray:
    """Cut the middle out of a very long image before it is resized: the rest would be cropped away anyway.

    The centre stays where it is, to half a pixel.

    Args:
        image: (H, W, C).
        elongation: Long side by short side of what will be seen.
    """
    longest = math.ceil(MAX_ELONGATION * elongation) * min(image.shape[:2])
    for axis in (0, 1):
        if (surplus := (image.shape[axis] - longest) // 2) > 0:
            image = image[surplus:-surplus] if axis == 0 else image[:, surplus:-surplus]
    return image


def check_interpolation(name: str) -> str:
    """The name, if it is one of an interpolation.

    Raises:
        ValueError: It is none.
    """
    if name not in ('bilinear', 'bicubic'):
        raise ValueError(f"interpolation must be 'bilinear' or 'bicubic', got {name!r}")
    return name


def height_and_width(size: Size, name: str = 'size') -> tuple[int, int]:
    """A side as that of a square; a pair as it is.

    Raises:
        ValueError: Neither.
    """
    pair = tuple(size) if isinstance(size, list | tuple) else (size, size)
    if len(pair) != 2 or not all(isinstance(side, int) and side >= 1 for side in pair):
        raise ValueError(f'{name} must be a positive integer or (height, width), got {size!r}')
    return pair
