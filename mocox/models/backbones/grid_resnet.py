"""A ResNet that keeps the places of what it sees."""

from typing import Any

from mmpretrain.models.backbones import ResNet_CIFAR
from torch import Tensor
from torch.nn import functional


class GridPooledResNet(ResNet_CIFAR):
    """mmpretrain's ResNet for small images, whose features are its last map averaged over each cell of a grid.

    The mean over the whole map forgets where a part was. In pictures that are centred and of one scale the place of a
    part tells the class; there ``grid=2`` gives four vectors, side by side, for one. The projector, the k-NN
    classifier and the linear classifier all read them, and are ``grid * grid`` times as wide.

    Args:
        grid: Cells a side; 1 is the mean over all positions.
        kwargs: Of ``mmpretrain.ResNet_CIFAR``; state-dict names are the same.

    Raises:
        ValueError: ``grid`` is no whole number from 1 on.
    """

    def __init__(self, *args: Any, grid: int = 2, **kwargs: Any) -> None:
        if type(grid) is not int or grid < 1:
            raise ValueError(f'grid={grid!r}: a whole number of cells a side, from 1 on')
        super().__init__(*args, **kwargs)
        self.grid = grid

    def forward_map(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps (B, C, H, W) of images (B, 3, S, S)."""
        return super().forward(x)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Features (B, C * grid^2) of images (B, 3, S, S), in a one-element tuple."""
        return (functional.adaptive_avg_pool2d(self.forward_map(x)[-1], self.grid).flatten(1),)
