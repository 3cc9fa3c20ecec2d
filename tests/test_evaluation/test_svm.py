"""Support vector machines: average precision by its definition, cases with a known answer, what is drawn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mocox.evaluation.svm import average_precision, low_shot_svm, one_hot_targets, svm_average_precisions

COSTS = [0.1, 10.0]


def by_definition(is_positive, scores):
    """Mean over the positives of the best precision among all cuts at or below theirs."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    precision = [sum(is_positive[i] for i in order[: cut + 1]) / (cut + 1) for cut in range(len(order))]
    return np.mean([max(precision[cut:]) for cut, i in enumerate(order) if is_positive[i]])


@pytest.mark.parametrize('seed', range(5))
def test_average_precision_is_the_area_under_the_monotone_curve(seed):
    rng = np.random.default_rng(seed)
    is_positive, scores = rng.random(30) < 0.3, rng.standard_normal(30)
    assert average_precision(is_positive, scores) == pytest.approx(by_definition(is_positive, scores))
    assert average_precision(is_positive, scores) >= average_precision_score(is_positive, scores)  # not made monotone


def test_average_precision_of_known_rankings():
    scores = np.array([4.0, 3.0, 2.0, 1.0])
    assert average_precision(np.array([1, 1, 0, 0], bool), scores) == 1
    assert average_precision(np.array([0, 0, 0, 1], bool), scores) == 1 / 4
    assert average_precision(np.array([0, 1, 1, 0], bool), scores) == 2 / 3  # 1/2 at the first hit, raised to 2/3


def data(num_images=90, seed=0):
    """Three independent attributes, each visible in one feature."""
    rng = np.random.default_rng(seed)
    targets = np.where(rng.random((num_images, 3)) < 0.4, 1, -1)
    return targets + 0.1 * rng.standard_normal((num_images, 3)), targets


def test_separable_attributes_are_found():
    precisions, costs = svm_average_precisions(*data(), *data(60, seed=1), costs=COSTS)
    assert precisions.tolist() == [1, 1, 1]
    assert set(costs) <= set(COSTS)
    found = low_shot_svm(*data(), *data(60, seed=1), num_shots=8, num_draws=3, costs=COSTS)
    assert found.mean > 0.95
    assert found.std < 0.05


def test_permuted_targets_give_chance():
    """The average precision of a random ranking is about the share of positives."""
    x, y = data(600)
    tx, ty = data(600, seed=1)
    rng = np.random.default_rng(2)
    precisions, _ = svm_average_precisions(x, y, tx, rng.permutation(ty), costs=[0.01])
    assert precisions == pytest.approx((ty == 1).mean(axis=0), abs=0.08)


def test_difficult_images_do_not_count_in_the_test():
    tx, ty = data(60, seed=1)
    wrong = np.concatenate([tx, -tx[:10]])
    difficult = np.concatenate([ty, np.zeros((10, 3), int)])
    assert svm_average_precisions(*data(), wrong, difficult, costs=[1.0])[0].tolist() == [1, 1, 1]
    as_absent = np.where(difficult == 0, -1, difficult)
    assert svm_average_precisions(*data(), wrong, as_absent, costs=[1.0])[0].max() < 1


def test_difficult_images_are_negatives_in_training_and_are_never_drawn():
    x, y = data()
    difficult = np.where(y == -1, 0, y)
    test = data(60, seed=1)
    absent, marked = (svm_average_precisions(x, targets, *test, costs=[1.0])[0] for targets in (y, difficult))
    assert absent.tolist() == marked.tolist()
    x, y = np.concatenate([x, 100 * x]), np.concatenate([y, np.zeros_like(y)])
    assert low_shot_svm(x, y, *test, num_shots=4, num_draws=2, costs=[1.0]) == low_shot_svm(
        x[:90], y[:90], *test, num_shots=4, num_draws=2, costs=[1.0]
    )


@pytest.mark.slow  # processes import everything anew
def test_processes_do_not_change_the_result():
    args = (*data(), *data(60, seed=1))
    one, two = (low_shot_svm(*args, 2, num_draws=2, costs=COSTS, num_jobs=number) for number in (1, 2))
    assert one == two


def test_too_few_images_are_an_error():
    x, y = data()
    y[:, 1] = -1
    y[:2, 1] = 1
    with pytest.raises(ValueError, match='class 1 has 2 training images: at least 3'):
        svm_average_precisions(x, y, *data())
    with pytest.raises(ValueError, match='class 1 has 2 training images: at least 5'):
        low_shot_svm(x, y, *data(), num_shots=4)


def test_one_hot_targets():
    assert one_hot_targets([2, 0], 3).tolist() == [[-1, -1, 1], [1, -1, -1]]
