"""The contrastive head: predictor, normalisation, similarities, loss."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from mocox import dist
from mocox.registry import MODELS


def l2_normalize(x: Tensor) -> Tensor:
    """Rows of (N, D) scaled to unit length, in at least float32 (in float16 the guard against zero rows vanishes)."""
    with torch.autocast(x.device.type, enabled=False):
        return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=1)


def similarities(q: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Logits (N, M) of unit-length queries (N, D) against keys (M, D), in the precision of the inputs."""
    with torch.autocast(q.device.type, enabled=False):
        return q @ keys.T / temperature


@MODELS.register_module()
class ContrastiveHead(BaseModule):
    """Compares queries with keys: those of the whole batch (MoCo v3) or those of a queue (MoCo v1, v2).

    Source: arXiv 2104.02057 and arXiv 1911.05722, algorithm 1 of each. Normalisation, similarities and loss run in
    float32 whatever the autocast setting. A component of your own only needs ``temperature`` and ``loss``.

    Args:
        predictor: Config of the network that maps projections to queries; None compares the projections themselves.
        loss: Config of a module that takes logits (N, M) and labels (N,).
        temperature: Divisor of the cosine similarities, above 0.
        init_cfg: Initialiser config.

    Raises:
        ValueError: ``temperature`` is not above 0.
    """

    def __init__(
        self,
        predictor: dict | None = None,
        loss: dict | None = None,
        temperature: float = 1.0,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not temperature > 0:
            raise ValueError(f'temperature={temperature}: must be above 0 (0.2 for ViTs, 1.0 for ResNets in MoCo v3)')
        self.predictor = None if predictor is None else MODELS.build(predictor)
        self.loss_module = MODELS.build(loss or dict(type='InfoNCELoss'))
        self.temperature = temperature

    def query(self, z: Tensor) -> Tensor:
        """Unit-length queries (N, D) of projections (N, D)."""
        return l2_normalize(z if self.predictor is None else self.predictor((z,))[-1])

    def loss(self, z: Tensor, k: Tensor, queue: Tensor | None = None) -> Tensor:
        """Contrast projections with the keys of the same images.

        Args:
            z: (R * N, D), the query encoder's projections of one view, in R blocks of the same images; usually R is 1.
            k: (N, D), the momentum encoder's projections of the other view, row for row the same images.
            queue: (K, D), unit-length negative keys; None takes the keys of the whole batch, all processes included.

        Returns:
            Scalar, in nats: the mean over this process's queries.
        """
        q, k = self.query(z), l2_normalize(k)
        logits, labels = self._in_batch(q, k) if queue is None else self._in_queue(q, k, queue)
        return self.loss_module(logits, labels)

    def _in_batch(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        keys = dist.gather_rows(k)  # (M, D), in rank order
        labels = torch.arange(len(k), device=q.device) + dist.rank_offset(len(k))
        return similarities(q, keys, self.temperature), labels.repeat(len(q) // len(k))

    def _in_queue(self, q: Tensor, k: Tensor, queue: Tensor) -> tuple[Tensor, Tensor]:
        positive = (q * k.repeat(len(q) // len(k), 1)).sum(dim=1, keepdim=True) / self.temperature  # (N, 1)
        logits = torch.cat([positive, similarities(q, queue.to(q.dtype), self.temperature)], dim=1)  # (N, 1 + K)
        return logits, torch.zeros(len(q), dtype=torch.long, device=q.device)
