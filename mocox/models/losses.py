"""InfoNCE as a pure function, and the thin module that configs name."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mocox.registry import MODELS


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
