"""Real photographs that come with scikit-learn, cut to views."""

from functools import lru_cache

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

from mocox.datasets import RandomResizedCrops


@lru_cache(maxsize=4)
def crops(num: int, size: int | tuple[int, int]) -> Tensor:
    """Random resized crops of two photographs, (num, 3, H, W) uint8; not to be written to."""
    photos = [photo.copy() for photo in load_sample_images().images]
    cut, rng = RandomResizedCrops(size, num_views=1), np.random.default_rng(0)
    return torch.stack([cut(photos[i % len(photos)], rng)[0] for i in range(num)])


def draws(num: int, seed: int = 1) -> Tensor:
    """Uniform numbers for ``num`` samples of one view, (num, 16)."""
    return torch.rand(num, 16, generator=torch.Generator().manual_seed(seed))
