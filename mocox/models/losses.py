"""InfoNCE as a pure function, in one piece and in chunks, and the thin module that configs name."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mocox.registry import MODELS

CHUNK_LOGITS = 2**22  # 16 MB of float32; what has more logits than this is computed in chunks of about this many


def info_nce(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-probability of the positive key.

    Source: arXiv 1911.05722, equation 1 (the temperature is already in the logits).

    Args:
        logits: (N, M), similarities divided by the temperature; half precision is raised to float32 first.
        labels: (N,), column of each query's positive key.

    Returns:
        Scalar, in nats; ``ln(M)`` when all similarities are equal.
    """
    with torch.autocast(logits.device.type, enabled=False):
        return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), labels)


def contrastive_logits(q: Tensor, keys: Tensor, temperature: float, positives: Tensor | None = None) -> Tensor:
    """Similarities of unit-length queries and keys, divided by the temperature, in the precision of the queries.

    Args:
        q: (N, D), queries.
        keys: (M, D), keys that all queries are compared with.
        temperature: The divisor.
        positives: (N, D), one more key for each query; it becomes the first column.

    Returns:
        (N, M), or (N, 1 + M) with ``positives``.
    """
    with torch.autocast(q.device.type, enabled=False):
        logits = q @ keys.to(q.dtype).T / temperature
        if positives is None:
            return logits
        return torch.cat([(q * positives).sum(dim=1, keepdim=True) / temperature, logits], dim=1)


def chunked_info_nce(
    q: Tensor,
    keys: Tensor,
    labels: Tensor,
    temperature: float,
    positives: Tensor | None = None,
    chunk_logits: int = CHUNK_LOGITS,
) -> Tensor:
    """:func:`info_nce` of :func:`contrastive_logits`, without ever holding all logits.

    Queries are taken in chunks, and the gradient is made in the forward pass, chunk by chunk: what lives until the
    backward pass has the size of the inputs and not that of the logits. It can be differentiated once.

    Args:
        q: (N, D), unit-length queries.
        keys: (M, D), unit-length keys.
        labels: (N,), column of each query's positive key.
        temperature: Divisor of the similarities.
        positives: (N, D), one more key for each query, before the others.
        chunk_logits: Logits held at a time, at least one row of them.

    Returns:
        Scalar, in nats.
    """
    num_columns = len(keys) + (positives is not None)
    return _ChunkedInfoNCE.apply(max(chunk_logits // num_columns, 1), labels, temperature, q, keys, positives)


class _ChunkedInfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: int,
        labels: Tensor,
        temperature: float,
        q: Tensor,
        keys: Tensor,
        positives: Tensor | None,
    ) -> Tensor:
        whole = [q, keys] if positives is None else [q, keys, positives]
        grads = {i: torch.zeros_like(x) for i, x in enumerate(whole) if ctx.needs_input_grad[3 + i]}
        total = q.new_zeros(())
        for chunk in (slice(i, i + rows) for i in range(0, len(q), rows)):
            part = [x.detach() if i == 1 else x[chunk].detach() for i, x in enumerate(whole)]
            needed = [part[i].requires_grad_() for i in grads]
            with torch.set_grad_enabled(bool(needed)):
                logits = contrastive_logits(part[0], part[1], temperature, *part[2:])
                loss = F.cross_entropy(logits, labels[chunk], reduction='sum') / len(q)
            del logits
            total += loss.detach()
            for i, grad in zip(grads, torch.autograd.grad(loss, needed) if needed else []):
                (grads[i] if i == 1 else grads[i][chunk]).add_(grad)
        ctx.save_for_backward(*(grads.get(i) for i in range(3)))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, *(None if g is None else g * grad for g in ctx.saved_tensors)


@MODELS.register_module()
class InfoNCELoss(nn.Module):
    """:func:`info_nce` times a constant, as a component.

    Args:
        loss_weight: Constant factor. The ``2 * temperature`` of MoCo v3 is not set here: the algorithm applies it.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of (N, M) logits with (N,) positive columns: a scalar in nats."""
        return self.loss_weight * info_nce(logits, labels)
