"""MoBY: MoCo's queues with a predictor and asymmetric regularisation, for Swin and DeiT."""

from typing import Any

from torch import Tensor, nn

from mocox.models.algorithms.moco import MoCo
from mocox.registry import MODELS


@MODELS.register_module()
class MoBY(MoCo):
    """Two queues, a predictor in the head, stochastic depth in the query encoder only.

    Source: arXiv 2105.04553, section 2. Give the backbone a drop path rate and the head a predictor, and raise the
    momentum with ``MomentumUpdateHook``.

    Args:
        backbone: Module or config of the query backbone, with its drop path rate.
        neck: Module or config of the projector.
        head: Module or config of the contrastive head, with predictor and temperature.
        queue_len: Keys in each of the two queues.
        feat_dim: Width of a key.
        base_momentum: Weight of the old key encoder at the start.
        kwargs: See :class:`MomentumContrast`.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module,
        head: dict | nn.Module,
        queue_len: int = 4096,
        feat_dim: int = 256,
        base_momentum: float = 0.99,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone, neck, head, queue_len, feat_dim, base_momentum, symmetric=True, **kwargs)
        module: Any
        for module in self.momentum_encoder.modules():
            if hasattr(module, 'drop_prob'):  # DropPath of timm, mmcv, mmengine, mmpretrain
                module.drop_prob = 0.0

    def loss(self, inputs: list[Tensor], data_samples: list | None = None) -> dict[str, Tensor]:
        """The sum, not the mean, of both directions' InfoNCE, in nats."""
        return {'loss': 2 * super().loss(inputs)['loss']}

    @classmethod
    def levels(cls, num_keys: int, temperature: float, num_random: int = 0) -> tuple[float, float]:
        """Chance and floor in nats of the sum of both directions."""
        chance, floor = super().levels(num_keys, temperature, num_random)
        return 2 * chance, 2 * floor
