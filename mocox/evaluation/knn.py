"""The k-nearest-neighbour classifier, the usual training-free evaluation of self-supervised features."""

import torch
from torch import Tensor
from torch.nn import functional as F


def nearest_neighbours(
    features: Tensor, bank: Tensor, num_neighbours: int, leave_one_out: bool = False, block_size: int = 4096
) -> tuple[Tensor, Tensor]:
    """Find the rows of the bank with the largest cosine similarity, exactly.

    At most ``block_size`` squared similarities exist at a time.

    Args:
        features: (N, C); need not be of unit length.
        bank: (M, C), on the same device.
        num_neighbours: At most M, or M - 1 with ``leave_one_out``.
        leave_one_out: ``features`` are the bank itself, and no row is its own neighbour.

    Returns:
        Similarities (N, K), the largest first, and the rows of the bank that they belong to (N, K).

    Raises:
        ValueError: More neighbours than the bank has, or ``leave_one_out`` with a bank of another length.
    """
    if leave_one_out and len(features) != len(bank):
        raise ValueError(f'leave_one_out compares a bank with itself: {len(features)} features for {len(bank)} rows')
    available = len(bank) - leave_one_out
    if not 1 <= num_neighbours <= available:
        raise ValueError(f'num_neighbours={num_neighbours}: must lie between 1 and the {available} rows to choose from')
    bank = F.normalize(bank.float(), dim=1)
    found = []
    for start in range(0, len(features), block_size):
        queries = F.normalize(features[start : start + block_size].float(), dim=1)
        row_of_query = torch.arange(start, start + len(queries), device=bank.device)[:, None] if leave_one_out else None
        found.append(_search(queries, bank, num_neighbours, row_of_query, block_size))
    similarities, rows = zip(*found, strict=True)
    return torch.cat(similarities), torch.cat(rows)


def _search(
    queries: Tensor, bank: Tensor, num_neighbours: int, excluded: Tensor | None, block_size: int
) -> tuple[Tensor, Tensor]:
    """Scan the bank in blocks and keep the best so far; ``excluded`` (N, 1) is a row that does not count."""
    best = queries.new_full((len(queries), num_neighbours), -torch.inf)
    best_rows = torch.zeros_like(best, dtype=torch.long)
    for start in range(0, len(bank), block_size):
        similarities = queries @ bank[start : start + block_size].T  # (N, block)
        rows = torch.arange(start, start + similarities.shape[1], device=bank.device).expand_as(similarities)
        if excluded is not None:
            similarities = similarities.masked_fill(rows == excluded, -torch.inf)
        best, order = _largest(torch.cat([best, similarities], dim=1), num_neighbours)
        best_rows = torch.cat([best_rows, rows], dim=1).gather(1, order)
    best, order = best.sort(dim=1, descending=True, stable=True)
    return best, best_rows.gather(1, order)


def _largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row (N, M) and their columns, both (N, k), in column order; ties go to the first.

    ``topk`` chooses among equals as its blocks fall, which differs between devices and widths.
    """
    smallest = values.topk(k, dim=1).values[:, -1:]  # that is taken
    tied, above = values == smallest, values > smallest
    taken = above | (tied & (tied.cumsum(dim=1) <= k - above.sum(dim=1, keepdim=True)))
    columns = taken.nonzero()[:, 1].view(-1, k)
    return values.gather(1, columns), columns


def knn_classify(
    features: Tensor,
    bank: Tensor,
    bank_labels: Tensor,
    num_neighbours: int = 20,
    temperature: float = 0.07,
    leave_one_out: bool = False,
    block_size: int = 4096,
) -> Tensor:
    """Classify by a weighted vote of the nearest neighbours, each with weight ``exp(similarity / temperature)``.

    Source: arXiv 1805.01978, section 3.4.

    Args:
        features: (N, C).
        bank: (M, C), features of labelled images.
        bank_labels: (M,) integers from 0.
        num_neighbours: Voters per feature.
        temperature: Above 0; the smaller, the more the nearest of the neighbours decide.
        leave_one_out: ``features`` are the bank itself: each row is classified by the others.
        block_size: See :func:`nearest_neighbours`.

    Returns:
        (N,) predicted labels.

    Raises:
        ValueError: See :func:`nearest_neighbours`; ``temperature`` not above 0; not one label per row of the bank.
    """
    if len(bank_labels) != len(bank):
        raise ValueError(f'{len(bank_labels)} labels for a bank of {len(bank)} rows')
    similarities, rows = nearest_neighbours(features, bank, num_neighbours, leave_one_out, block_size)
    return weighted_vote(similarities, bank_labels[rows], temperature)


def weighted_vote(
    similarities: Tensor, labels: Tensor, temperature: float = 0.07, num_classes: int | None = None
) -> Tensor:
    """The label with the largest sum of ``exp(similarity / temperature)``.

    Args:
        similarities: (N, K), the voters'.
        labels: (N, K), the voters', integers from 0.
        temperature: Above 0.
        num_classes: More than the largest label; if None, it is read from ``labels``, for which a GPU is waited for.

    Returns:
        (N,) labels.

    Raises:
        ValueError: ``temperature`` is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f'temperature={temperature}: must be above 0')
    weights = torch.softmax(similarities / temperature, dim=1)  # the common factor does not change the vote
    votes = weights.new_zeros(len(weights), num_classes or int(labels.max()) + 1)
    return votes.scatter_add_(1, labels, weights).argmax(dim=1)
