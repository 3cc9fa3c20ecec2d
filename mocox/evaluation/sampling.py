"""Labelled training subsets of the protocols, fixed by a seed."""

import numpy as np
import torch
from torch import Tensor

from mocox.datasets import stratified_subset


def hold_out(labels: Tensor, fraction: float = 0.1, limit: int = 10_000, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Hold out a part of every class for choosing settings.

    Args:
        labels: (N,) integers.
        fraction: Share of each class, rounded; at least one image of a class that has two, never all of them.
        limit: About so many images are enough to tell settings apart.
        seed: Seed of the draw.

    Returns:
        Rows to learn from and rows held out, both ascending.

    Raises:
        ValueError: No class has two images.
    """
    counts = torch.bincount(labels)[labels].numpy()
    rows = stratified_subset(labels.numpy(), fraction=min(fraction, limit / len(labels)), seed=seed)
    held_out = np.zeros(len(labels), dtype=bool)
    held_out[rows] = counts[rows] > 1
    if not held_out.any():
        raise ValueError('every class has one image: none can be held out for choosing settings')
    return torch.from_numpy(np.flatnonzero(~held_out)), torch.from_numpy(np.flatnonzero(held_out))


def draw_per_class(labels: Tensor, num_images: int, seed: int) -> Tensor:
    """Draw the same number of images of every class, without replacement; ascending rows."""
    return torch.from_numpy(stratified_subset(labels.numpy(), per_class=num_images, seed=seed))
