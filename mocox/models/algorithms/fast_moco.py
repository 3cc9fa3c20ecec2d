"""Fast-MoCo: more queries from one pass, by combining patches."""

from itertools import combinations
from math import log
from typing import Any

import torch
from torch import Tensor, nn

from mocox.models.algorithms.base import MomentumContrast
from mocox.models.chunks import encode_in_chunks
from mocox.models.layout import require_layout
from mocox.models.necks import average_positions
from mocox.registry import MODELS
from mocox.schedules import info_nce_floor


@MODELS.register_module()
class FastMoCo(MomentumContrast):
    """Each view is cut into a grid of patches, encoded separately; every combination of them gives a query.

    The keys are those of whole views, as in MoCo v3, and the momentum encoder starts as a copy of the query encoder.
    Source: arXiv 2207.08220, section 3.

    Args:
        backbone: Module or config of the query backbone; sees patches of side S / ``num_splits``.
        neck: Module or config of the projector; gets the mean of a combination's features.
        head: Module or config of the contrastive head, with predictor and temperature.
        num_splits: Patches per side of a view.
        num_combined: Patches per combination.
        base_momentum: Weight of the old key encoder.
        kwargs: See :class:`MomentumContrast`; a chunk is as many patches as ``chunk_size`` images have.

    Raises:
        ValueError: More patches to combine than there are, or fewer than 1.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module,
        head: dict | nn.Module,
        num_splits: int = 2,
        num_combined: int = 2,
        base_momentum: float = 0.99,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone, neck, head, base_momentum, **kwargs)
        if not 1 <= num_combined <= num_splits**2:
            raise ValueError(
                f'num_combined={num_combined}: a {num_splits} x {num_splits} grid has {num_splits**2} patches'
            )
        self.num_splits = num_splits
        self.num_combined = num_combined

    def loss(self, inputs: list[Tensor], data_samples: list | None = None) -> dict[str, Tensor]:
        """Mean InfoNCE over combinations and both directions.

        Args:
            inputs: The two views x1, x2, each (N, 3, S, S).
            data_samples: Unused: the method has no labels.

        Returns:
            ``{'loss': scalar in nats}``.
        """
        x1, x2 = inputs
        keys = self.gather_keys([x1, x2])
        z1, z2 = self.encode_combinations(x1), self.encode_combinations(x2)
        k1, k2 = keys()
        return {'loss': (self.head.loss(z1, k2) + self.head.loss(z2, k1)) / 2}

    def encode_combinations(self, x: Tensor) -> Tensor:
        """Projections (R * N, D) of the R combinations of patches of (N, 3, S, S), block after block."""
        chunk_size = self.chunk_size and self.chunk_size * self.num_splits**2
        patches = split_grid(x, self.num_splits)
        features = encode_in_chunks(self.backbone, patches, chunk_size, interleave=self.batch_norm)
        features = average_positions(require_layout(features, patches, type(self.backbone).__name__))
        parts = features.chunk(self.num_splits**2)
        if self.observed is not None:
            mean: Any = sum(parts) / len(parts)
            self.observed.setdefault('features', mean.detach())  # of the first view
        means: list[Any] = [sum(chosen) / self.num_combined for chosen in combinations(parts, self.num_combined)]
        return self.neck((torch.cat(means),))[-1]

    @classmethod
    def levels(cls, num_keys: int, temperature: float, num_random: int = 0) -> tuple[float, float]:
        """Chance and floor in nats of the mean over combinations and directions."""
        return log(num_keys), info_nce_floor(num_keys, temperature)


def split_grid(x: Tensor, num_splits: int) -> Tensor:
    """Cut (N, C, H, W) into a grid: (num_splits ** 2 * N, C, H / num_splits, W / num_splits), patch after patch.

    Raises:
        ValueError: A side is not divisible by ``num_splits``.
    """
    height, width = x.shape[2:]
    if height % num_splits or width % num_splits:
        raise ValueError(f'views of {height} x {width} px cannot be cut into {num_splits} x {num_splits} equal patches')
    rows = x.chunk(num_splits, dim=2)
    return torch.cat([patch for row in rows for patch in row.chunk(num_splits, dim=3)])
