"""The contrastive head: predictor, normalisation, similarities, loss."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from mocox import dist
from mocox.models.losses import CHUNK_LOGITS, InfoNCELoss, chunked_info_nce, contrastive_logits
from mocox.registry import MODELS


def l2_normalize(x: Tensor) -> Tensor:
    """Rows of (N, D) scaled to unit length, in at least float32 (in float16 the guard against zero rows vanishes)."""
    with torch.autocast(x.device.type, enabled=False):
        return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=1)


@MODELS.register_module()
class ContrastiveHead(BaseModule):
    """Compares queries with keys: those of the whole batch (MoCo v3) or those of a queue (MoCo v1, v2).

    Source: arXiv 2104.02057 and arXiv 1911.05722, algorithm 1 of each. Normalisation, similarities and loss run in
    float32 whatever the autocast setting. A component of your own only needs ``temperature`` and ``loss``.

    Args:
        predictor: Config of the network that maps projections to queries; None compares the projections themselves.
        loss: Config of a module that takes logits (N, M) and labels (N,). ``InfoNCELoss`` is computed in chunks where
            there are more than 4 million logits, without holding all of them.
        temperature: Divisor of the cosine similarities, above 0.
        init_cfg: Initialiser config.

    Raises:
        ValueError: ``temperature`` is not above 0.
    """

    observed: dict[str, Tensor] | None = None  # where a monitor finds what the first call has compared

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

    def loss(self, z: Tensor, keys: Tensor, queue: Tensor | None = None) -> Tensor:
        """Contrast projections with keys.

        Args:
            z: (R * N, D), the query encoder's projections of one view, in R blocks of the same images; usually R is 1.
            keys: (world size * N, D), the momentum encoder's unit-length keys of the other view, of all processes in
                rank order; those of this process are row for row the same images.
            queue: (K, D), unit-length negative keys; None takes the other keys of the batch.

        Returns:
            Scalar, in nats: the mean over this process's queries.
        """
        q = self.query(z)
        n = len(keys) // dist.world_size()
        own = (torch.arange(n, device=q.device) + dist.rank_offset(n)).repeat(len(q) // n)  # (R * N,)
        if self.observed is not None and 'q' not in self.observed:  # of a step's directions the first
            self.observed.update(_compared(q, keys, own, queue))
        if queue is None:
            return self._compare(q, keys, own)
        return self._compare(q, queue, torch.zeros_like(own), keys[own])

    def _compare(self, q: Tensor, keys: Tensor, labels: Tensor, positives: Tensor | None = None) -> Tensor:
        plain = type(self.loss_module).forward is InfoNCELoss.forward  # another loss gets its logits
        if plain and len(q) * len(keys) > CHUNK_LOGITS:
            loss = chunked_info_nce(q, keys.to(q.dtype), labels, self.temperature, positives)
            return self.loss_module.loss_weight * loss
        return self.loss_module(contrastive_logits(q, keys, self.temperature, positives), labels)


def _compared(q: Tensor, keys: Tensor, own: Tensor, queue: Tensor | None) -> dict[str, Tensor]:
    """The comparisons of a step, as the monitors read them."""
    if queue is None:
        return dict(q=q.detach(), keys=keys.detach(), labels=own)
    return dict(q=q.detach(), keys=queue, labels=torch.zeros_like(own), positives=keys.detach()[own])
