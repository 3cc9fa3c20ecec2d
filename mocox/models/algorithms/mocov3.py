"""MoCo v3."""

from typing import Any

from torch import Tensor, nn

from mocox.models.algorithms.base import MomentumContrast
from mocox.registry import MODELS
from mocox.schedules import in_batch_chance_level, in_batch_floor


@MODELS.register_module()
class MoCoV3(MomentumContrast):
    """Momentum Contrast for vision transformers and ConvNets, without a queue.

    Each view's queries are contrasted with the momentum encoder's keys of the other view; the keys of the whole batch
    are the negatives. Source: arXiv 2104.02057, algorithm 1.

    Args:
        backbone: Module or config of the query backbone.
        neck: Module or config of the projector.
        head: Module or config of the contrastive head, with its predictor and temperature.
        base_momentum: Weight of the old key encoder at the start; ``MomentumUpdateHook`` raises it to 1.
        kwargs: See :class:`MomentumContrast`; ``chunk_size`` trains a large batch in little memory.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module,
        head: dict | nn.Module,
        base_momentum: float = 0.99,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone, neck, head, base_momentum, **kwargs)

    def loss(self, inputs: list[Tensor], data_samples: list | None = None) -> dict[str, Tensor]:
        """Symmetrised InfoNCE.

        The factor ``2 * temperature`` keeps the gradient's size independent of the temperature, so that learning rates
        carry over between temperatures.

        Args:
            inputs: The two views x1, x2, each (N, 3, S, S).
            data_samples: Unused: the method has no labels.

        Returns:
            ``{'loss': scalar in nats}``, the sum over both directions times ``2 * temperature``.
        """
        x1, x2 = inputs
        keys = self.gather_keys([x1, x2])
        z1, z2 = self.encode_queries([x1, x2])
        k1, k2 = keys()
        loss = self.head.loss(z1, k2) + self.head.loss(z2, k1)
        return {'loss': 2 * self.head.temperature * loss}

    @classmethod
    def levels(cls, num_keys: int, temperature: float, num_random: int = 0) -> tuple[float, float]:
        """Chance and floor in nats: both directions, times ``2 * temperature``."""
        return in_batch_chance_level(num_keys, temperature), in_batch_floor(num_keys, temperature)
