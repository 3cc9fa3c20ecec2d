"""Linear support vector machines on features of images with several labels: the VOC07 protocol, full and low-shot."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# arXiv 1905.01235, appendix, with the values of its official code.
COSTS = (1.0, 10.0, 100.0, *(0.5**n for n in range(4, 20)))
SHOTS = (1, 2, 4, 8, 16, 32, 64, 96)
NUM_FOLDS = 3


@dataclass(frozen=True)
class LowShot:
    """Mean and spread over the draws, as fractions, and the cost that was chosen."""

    mean: float
    std: float
    cost: float


def average_precision(is_positive: np.ndarray, scores: np.ndarray) -> float:
    """Area under the precision-recall curve, precision made monotone: what VOC counts since 2010.

    The official low-shot and SVM code of arXiv 1905.01235 uses this area for VOC07 too.

    Args:
        is_positive: (N,) bool, at least one.
        scores: (N,).
    """
    hits = np.asarray(is_positive, dtype=bool)[np.argsort(-np.asarray(scores), kind='stable')]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best_from_here[hits].mean())


def svm_average_precisions(
    features: np.ndarray,
    targets: np.ndarray,
    test_features: np.ndarray,
    test_targets: np.ndarray,
    costs: Sequence[float] = COSTS,
    seed: int = 0,
    num_jobs: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """One machine per class, its cost chosen by the average precision in 3-fold cross-validation.

    Source: arXiv 1905.01235, section 6.1, with the values of its official code: features of unit length, squared hinge,
    positives count twice. As there, an image that shows a class only as a difficult object is a negative in training
    and does not count in the test.

    Args:
        features: (N, C).
        targets: (N, K) with 1 present, 0 difficult, -1 absent.
        test_features: (M, C).
        test_targets: (M, K).
        costs: To choose from.
        seed: Seed of the solver.
        num_jobs: Processes.

    Returns:
        Average precision (K,) and cost (K,).

    Raises:
        ValueError: A class has too few positive images.
    """
    features, test_features = _unit_length(features), _unit_length(test_features)
    _check_positives(targets, NUM_FOLDS, 'training')
    _check_positives(test_targets, 1, 'test')
    jobs = [(features, np.where(column == 1, 1, -1), costs, seed) for column in targets.T]
    fitted = _parallel(_fit_best, jobs, num_jobs)
    precisions = [
        _test(machine, test_features, column) for (machine, _), column in zip(fitted, test_targets.T, strict=True)
    ]
    return np.array(precisions), np.array([cost for _, cost in fitted])


def low_shot_svm(
    features: np.ndarray,
    targets: np.ndarray,
    test_features: np.ndarray,
    test_targets: np.ndarray,
    num_shots: int,
    num_draws: int = 5,
    costs: Sequence[float] = COSTS,
    seed: int = 0,
    num_jobs: int = 1,
) -> LowShot:
    """Mean average precision with few positives per class, and K - 1 times as many negatives.

    Source: arXiv 1905.01235, section 6.1. One cost serves all classes and draws. The official code takes the one that
    is best in the test; here it is the one that is best on the training images that were not drawn.

    Args:
        features: (N, C).
        targets: (N, K) with 1 present, 0 difficult, -1 absent.
        test_features: (M, C).
        test_targets: (M, K).
        num_shots: Positive images per class.
        num_draws: Repetitions.
        costs: To choose from.
        seed: Seed of the draws and the solver.
        num_jobs: Processes.

    Raises:
        ValueError: A class has too few images to draw from and to choose by.
    """
    features, test_features = _unit_length(features), _unit_length(test_features)
    _check_positives(targets, num_shots + 1, 'training')  # one must remain for choosing the cost
    _check_positives(test_targets, 1, 'test')
    num_classes = targets.shape[1]
    jobs = []
    for draw in range(num_draws):
        for label in range(num_classes):
            rng = np.random.default_rng([seed, num_shots, draw, label])
            positive, negative = np.flatnonzero(targets[:, label] == 1), np.flatnonzero(targets[:, label] == -1)
            num_negatives = min((num_classes - 1) * num_shots, len(negative) - 1)
            drawn = np.concatenate([rng.permutation(positive)[:num_shots], rng.permutation(negative)[:num_negatives]])
            jobs.append((features, targets[:, label], drawn, test_features, test_targets[:, label], costs, seed))
    precisions = np.array(_parallel(_fit_low_shot, jobs, num_jobs))  # (draws * classes, costs, 2)
    precisions = precisions.reshape(num_draws, num_classes, len(costs), 2).mean(axis=1)
    best = int(precisions[..., 0].mean(axis=0).argmax())
    in_test = precisions[:, best, 1]
    return LowShot(float(in_test.mean()), float(in_test.std()), costs[best])


def one_hot_targets(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Targets (N, K) of images with one label each."""
    return np.where(np.asarray(labels)[:, None] == np.arange(num_classes), 1, -1)


def _fit_best(features: np.ndarray, signs: np.ndarray, costs: Sequence[float], seed: int) -> tuple[object, float]:
    from sklearn.model_selection import cross_val_score

    machines = [_machine(cost, seed) for cost in costs]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # at large costs the published 2,000 iterations do not converge
        if len(costs) > 1:
            means = [
                cross_val_score(machine, features, signs, cv=NUM_FOLDS, scoring='average_precision').mean()
                for machine in machines
            ]
            best = int(np.argmax(means))
        else:
            best = 0
        return machines[best].fit(features, signs), costs[best]


def _fit_low_shot(
    features: np.ndarray,
    targets: np.ndarray,
    drawn: np.ndarray,
    test_features: np.ndarray,
    test_targets: np.ndarray,
    costs: Sequence[float],
    seed: int,
) -> list[tuple[float, float]]:
    """Average precision on the images not drawn, and on the test images, for every cost."""
    rest = np.setdiff1d(np.arange(len(features)), drawn)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for cost in costs:
            machine = _machine(cost, seed).fit(features[drawn], targets[drawn])
            found.append((_test(machine, features[rest], targets[rest]), _test(machine, test_features, test_targets)))
    return found


def _machine(cost: float, seed: int) -> Any:
    from sklearn.svm import LinearSVC  # slow to import

    return LinearSVC(
        C=cost, loss='squared_hinge', class_weight={1: 2, -1: 1}, dual=True, max_iter=2000, random_state=seed
    )


def _test(machine: Any, features: np.ndarray, targets: np.ndarray) -> float:
    counts = targets != 0
    return average_precision(targets[counts] == 1, machine.decision_function(features[counts]))


def _unit_length(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, dtype=np.float64)
    return features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-5)


def _check_positives(targets: np.ndarray, needed: int, which: str) -> None:
    counts = (targets == 1).sum(axis=0)
    if counts.min() < needed:
        raise ValueError(f'class {counts.argmin()} has {counts.min()} {which} images: at least {needed} are needed')


def _parallel(function: Callable[..., Any], jobs: list[tuple], num_jobs: int) -> list:
    if num_jobs == 1:
        return [function(*job) for job in jobs]
    from joblib import Parallel, delayed  # comes with scikit-learn

    return Parallel(n_jobs=num_jobs)(delayed(function)(*job) for job in jobs)
