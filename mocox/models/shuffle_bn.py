"""Shuffling BN: keys are normalised in other batches than their queries.

Queries and keys of the same images share BatchNorm statistics otherwise, and the contrastive task can be solved by
recognising those (arXiv 1911.05722, section 3.3).
"""

import torch
from torch import Tensor

from mocox import dist


def draw_permutation(num_rows: int, iteration: int) -> Tensor:
    """A permutation of the global batch, equal on all processes: a function of the iteration alone."""
    return torch.randperm(num_rows, generator=torch.Generator().manual_seed(iteration))


def shuffle_rows(x: Tensor, order: Tensor) -> Tensor:
    """This process's share (N, ...) of all processes' rows, permuted by ``order`` (world size * N,)."""
    return dist.exchange_rows(x, order)


def unshuffle_rows(rows: Tensor, order: Tensor) -> Tensor:
    """All processes' rows (world size * N, ...) in their original order, from the gathered shuffled shares."""
    return rows[order.argsort().to(rows.device, non_blocking=True)]
