"""A ResNet that keeps the places of what it sees."""

from typing import Any

import torch
from mmpretrain.models.backbones import ResNet_CIFAR
from torch import Tensor
from torch.nn import functional


class GridPooledResNet(ResNet_CIFAR):
    """mmpretrain's ResNet for small images, whose features are its maps averaged over each cell of a grid.

    The mean over the whole map forgets where a part was. In pictures that are centred and of one scale the place of a
    part tells the class; there ``grid=2`` gives four vectors, side by side, for one. The projector, the k-NN
    classifier and the linear classifier all read them, and are ``grid * grid`` times as wide. The maps are those of
    ``out_indices``, by default the last one; with several, theirs stand side by side.

    Args:
        grid: Cells a side; 1 is the mean over all positions.
        kwargs: Of ``mmpretrain.ResNet_CIFAR``; state-dict names are the same.

    Raises:
        ValueError: ``grid`` is no whole number from 1 on; of the forward pass: a map has fewer positions a side.
    """

    def __init__(self, *args: Any, grid: int, **kwargs: Any) -> None:
        if type(grid) is not int or grid < 1:
            raise ValueError(f'grid={grid!r}: a whole number of cells a side, from 1 on')
        super().__init__(*args, **kwargs)
        self.grid = grid

    def forward_map(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps (B, C, H, W) of images (B, 3, S, S), one of each stage in ``out_indices``."""
        return super().forward(x)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Features (B, C * grid^2), C of all maps together, of images (B, 3, S, S), in a one-element tuple."""
        return (torch.cat([self._cells(found).flatten(1) for found in self.forward_map(x)], dim=1),)

    def _cells(self, found: Tensor) -> Tensor:
        if self.grid > min(found.shape[2:]):
            raise ValueError(
                f'grid={self.grid} of a GridPooledResNet, but a map has {tuple(found.shape[2:])} positions: '
                'choose a smaller grid, smaller strides or larger images'
            )
        return functional.adaptive_avg_pool2d(found, self.grid)
