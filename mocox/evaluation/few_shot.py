"""Few-shot classification by the nearest class mean."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mocox.evaluation.sampling import draw_per_class


def nearest_class_mean(features: Tensor, support: Tensor, support_labels: Tensor) -> Tensor:
    """Labels (N,): the class whose mean is most similar (cosine), features of unit length averaged.

    Source: arXiv 1703.05175, section 2.3, with the cosine in place of the distance.

    Args:
        features: (N, C).
        support: (M, C), of every class at least one.
        support_labels: (M,) integers from 0.
    """
    num_classes = int(support_labels.max()) + 1
    sums = support.new_zeros(num_classes, support.shape[1])
    sums.index_add_(0, support_labels, F.normalize(support, dim=1))
    return (F.normalize(features, dim=1) @ F.normalize(sums, dim=1).T).argmax(dim=1)


def few_shot_accuracies(
    features: Tensor,
    labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    num_shots: int,
    num_draws: int = 10,
    num_ways: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Accuracy on the test images after ``num_shots`` training images per class, for every draw.

    Args:
        features: (N, C).
        labels: (N,).
        test_features: (M, C).
        test_labels: (M,).
        num_shots: Images per class.
        num_draws: Repetitions with other images.
        num_ways: Classes of an episode, drawn anew each time; by default all. The test is then on these classes only.
        seed: Seed of the draws.

    Returns:
        (num_draws,) fractions.

    Raises:
        ValueError: A class has fewer than ``num_shots`` images, or there are fewer than ``num_ways`` classes.
    """
    tested = test_labels.unique()
    if num_ways is not None and not 2 <= num_ways <= len(tested):
        raise ValueError(f'num_ways={num_ways}: must lie between 2 and the {len(tested)} classes of the test images')
    accuracies = []
    for draw in range(num_draws):
        rows = draw_per_class(labels.cpu(), num_shots, seed=1000 * seed + draw).to(features.device)
        queries = torch.arange(len(test_labels), device=features.device)
        if num_ways is not None:
            generator = torch.Generator().manual_seed(1000 * seed + draw)
            ways = tested[torch.randperm(len(tested), generator=generator)[:num_ways]]
            rows = rows[torch.isin(labels[rows], ways)]
            queries = queries[torch.isin(test_labels, ways)]
        support_labels = labels[rows]
        # Classes without images must not win with their empty mean.
        known, support_labels = support_labels.unique(return_inverse=True)
        predicted = known[nearest_class_mean(test_features[queries], features[rows], support_labels)]
        accuracies.append((predicted == test_labels[queries]).cpu().double().mean())
    return torch.stack(accuracies)
