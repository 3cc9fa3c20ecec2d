"""The papers' equations written out."""

import torch
import torch.nn.functional as F
from torch import nn


def encode(backbone: nn.Module, neck: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return F.normalize(neck(backbone(x))[0], dim=1)


def contrast(q: torch.Tensor, k: torch.Tensor, queue: torch.Tensor, temperature: float = 0.2) -> torch.Tensor:
    logits = torch.cat([torch.einsum('nd,nd->n', q, k)[:, None], torch.einsum('nd,dk->nk', q, queue)], dim=1)
    return F.cross_entropy(logits / temperature, torch.zeros(len(q), dtype=torch.long))


def simplex(num: int) -> torch.Tensor:
    """Unit vectors (num, num) as far from each other as possible."""
    return F.normalize(torch.eye(num, dtype=torch.float64) - 1 / num, dim=1)
