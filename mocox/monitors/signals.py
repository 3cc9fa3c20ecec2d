"""Summary statistics of a step's comparisons. All stay on the device: no host sync here."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mocox.evaluation.knn import weighted_vote
from mocox.models.losses import contrastive_logits, info_nce

MAX_LOGITS = 2**23  # 32 MB; of a larger batch or queue the first queries are compared
FEW_ROWS = 512  # with fewer labelled features the k-NN classifier says little
MAX_ROWS = 128  # images for the signals of quadratic and cubic cost


@torch.no_grad()
def measure(observed: dict[str, Tensor], temperature: float) -> dict[str, Tensor]:
    """All signals of a step, as scalars on the device.

    Args:
        observed: What the model left: ``q`` (N, D), ``keys`` (M, D), ``labels`` (N,), with a queue ``positives``
            (N, D), and ``features`` (N, C); what is missing gives no signals.
        temperature: Divisor of the cosines in the logits.
    """
    signals = {}
    if 'q' in observed:
        rows = slice(max(MAX_LOGITS // len(observed['keys']), 1))
        q, labels = observed['q'][rows].float(), observed['labels'][rows]
        positives = observed['positives'][rows].float() if 'positives' in observed else None
        logits = contrastive_logits(q, observed['keys'], temperature, positives)
        signals.update(contrast_signals(logits, labels, temperature))
        signals['info_nce'] = info_nce(logits, labels)
        signals['uniformity'] = uniformity(q[:MAX_ROWS])
    if 'features' in observed:
        features = observed['features'][:MAX_ROWS].float()
        signals['feature_std'] = feature_std(features)
        signals['effective_rank'] = effective_rank(features)
    return signals


def contrast_signals(logits: Tensor, labels: Tensor, temperature: float) -> dict[str, Tensor]:
    """Measures of how well queries tell their positive key from the others.

    A positive that only ties with another key is not found: equal logits count as a miss, wherever the positive stands.

    Args:
        logits: (N, M), cosines divided by the temperature.
        labels: (N,), column of each query's positive.
        temperature: That divisor.

    Returns:
        ``contrastive_top1`` (0 to 1); ``positive_cosine`` and ``negative_cosine``, means; ``alignment``, the mean
        squared distance of a query and its positive (arXiv 2005.10242, equation 4).
    """
    positive = logits.gather(1, labels[:, None])  # (N, 1)
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
    cosine = temperature * positive.mean()
    num_negatives = max(logits.shape[1] - 1, 1)
    return dict(
        contrastive_top1=(positive[:, 0] > others).float().mean(),
        positive_cosine=cosine,
        negative_cosine=temperature * (logits.sum() - positive.sum()) / (len(logits) * num_negatives),
        alignment=2 - 2 * cosine,
    )


def uniformity(q: Tensor) -> Tensor:
    """Log of the mean of ``exp(-2 |q_i - q_j|^2)`` over pairs of unit-length rows (N, D): 0 collapsed, -4 at the best.

    Source: arXiv 2005.10242, equation 5.
    """
    squares = 2 - 2 * (q @ q.T)
    pairs = torch.triu(torch.ones_like(squares, dtype=torch.bool), diagonal=1)
    return torch.where(pairs, (-2 * squares).exp(), 0.0).sum().div(max(len(q) * (len(q) - 1) / 2, 1)).log()


def feature_std(features: Tensor) -> Tensor:
    """Standard deviation of unit-length features (N, C) times ``sqrt(C)``: 1 spread evenly, 0 all equal.

    Source: arXiv 2011.10566, section 4.1.
    """
    unit = F.normalize(features, dim=1)
    return unit.var(dim=0, unbiased=False).sum().sqrt()


def effective_rank(features: Tensor) -> Tensor:
    """Exponential of the entropy of the singular values of features (N, C), not centred: 1 to min(N, C).

    Source: RankMe, arXiv 2210.02885, equation 2. From the eigenvalues of the smaller Gram matrix, in float32.
    """
    x = torch.nan_to_num(features)
    x = x / x.norm().clamp_min(1e-12)
    gram = x @ x.T if x.shape[0] <= x.shape[1] else x.T @ x
    if gram.device.type == 'mps':  # torch has no eigenvalues there
        gram = gram.cpu()
    values = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    values = torch.where(values > 1e-3 * values.amax(), values, 0.0)  # smaller values are rounding errors
    shares = values / values.sum().clamp_min(1e-12)
    return torch.special.entr(shares).sum().exp()


class FeatureBank:
    """A ring of the newest features of training images with their labels, for a k-NN classifier while training.

    Source: the monitor of arXiv 2104.02057, section 4: features of augmented training images as the training step made
    them, without another pass. An image that comes round again is never its own neighbour.

    Args:
        size: Features that it holds.
        num_classes: More than the largest label.
    """

    def __init__(self, size: int, num_classes: int) -> None:
        self.size, self.num_classes = size, num_classes
        self.start = self.count = 0
        self.features: Tensor | None = None  # (size, C) of unit length

    def append(self, features: Tensor, labels: Tensor, indices: Tensor) -> None:
        """Replace the oldest rows.

        Args:
            features: (N, C).
            labels: (N,) integers from 0.
            indices: (N,), the images' numbers in the data set.
        """
        if self.features is None:
            self.features = features.new_zeros(self.size, features.shape[1], dtype=torch.float32)
            self.labels = labels.new_zeros(self.size)
            self.indices = indices.new_zeros(self.size)
        features = torch.nan_to_num(F.normalize(features[-self.size :].float(), dim=1))
        rows = (self.start + torch.arange(len(features), device=features.device)) % self.size
        self.features.index_copy_(0, rows, features)
        self.labels.index_copy_(0, rows, labels[-self.size :])
        self.indices.index_copy_(0, rows, indices[-self.size :])
        self.start = (self.start + len(features)) % self.size
        self.count = min(self.count + len(features), self.size)

    def accuracy(self, num_neighbours: int, temperature: float, num_queries: int = MAX_ROWS) -> Tensor | None:
        """Share of the newest rows that the others classify correctly; None while the ring is nearly empty."""
        if self.features is None or self.labels is None or self.indices is None:
            return None
        if self.count < min(self.size, FEW_ROWS):
            return None
        num_queries = min(num_queries, self.count // 2)
        newest = (self.start - 1 - torch.arange(num_queries, device=self.features.device)) % self.size
        cosines = self.features[newest] @ self.features[: self.count].T
        same = self.indices[newest][:, None] == self.indices[None, : self.count]
        cosines, rows = cosines.masked_fill(same, -torch.inf).topk(min(num_neighbours, self.count), dim=1)
        votes = weighted_vote(cosines, self.labels[rows], temperature, self.num_classes)
        return (votes == self.labels[newest]).float().mean()
