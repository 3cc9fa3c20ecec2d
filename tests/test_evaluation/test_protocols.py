"""The protocols on features whose answer is known: separable = 100 %, permuted labels = chance."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from mocox.evaluation import knn_classify
from mocox.evaluation.few_shot import few_shot_accuracies, nearest_class_mean
from mocox.evaluation.pipeline import check_finite, split_options
from mocox.evaluation.protocols import PROTOCOLS, choose_protocols
from mocox.evaluation.task import Task

FAST = dict(
    knn=dict(ks=(1, 10)),
    logreg=dict(),
    fewshot=dict(shots=(1, 5), num_draws=4),
    svm=dict(costs=(1.0,)),
    lowshot=dict(shots=(2, 8), num_draws=2, costs=(1.0,)),
)


def task(permuted=False, num_images=200, num_classes=4):
    """Classes along orthogonal directions."""
    generator = torch.Generator().manual_seed(0)

    def draw():
        labels = torch.arange(num_images) % num_classes
        features = 4 * torch.eye(8)[labels] + 0.2 * torch.randn(num_images, 8, generator=generator)
        return features, labels[torch.randperm(num_images, generator=generator)] if permuted else labels

    return Task(*draw(), *draw())


@pytest.mark.parametrize('name', FAST)
def test_separable_features_give_100_percent(name):
    results = PROTOCOLS[name].run(task(), **FAST[name])
    assert [round(result.value, 6) for result in results] == [100] * len(results)
    assert {result.protocol for result in results} == {name}
    assert {result.n for result in results} == {200}


@pytest.mark.parametrize('name', FAST)
def test_permuted_labels_give_chance(name):
    """4 classes: 25 %; 200 independent tests have a standard error of 3 %."""
    for result in PROTOCOLS[name].run(task(permuted=True), **FAST[name]):
        assert result.value == pytest.approx(25, abs=10)


def test_every_k_has_its_own_vote():
    noisy = task(permuted=True)
    for result in PROTOCOLS['knn'].run(noisy, ks=(1, 7, 50), temperature=0.5):
        predicted = knn_classify(noisy.test_features, noisy.features, noisy.labels, int(result.setting[2:]), 0.5)
        assert result.value == pytest.approx(100 * (predicted == noisy.test_labels).double().mean().item())


def test_the_same_seed_gives_the_same_numbers():
    for name in ('logreg', 'fewshot'):
        first, second = (PROTOCOLS[name].run(task(permuted=True), **FAST[name]) for _ in range(2))
        assert first == second


def test_leave_one_out_does_not_count_the_image_itself():
    """Every image exists once: with itself as neighbour, 1-NN would be perfect whatever the labels are."""
    permuted = task(permuted=True)
    alone = Task(permuted.features, permuted.labels, permuted.features, permuted.labels)
    assert PROTOCOLS['knn'].run(alone, ks=[1])[0].value < 40
    assert PROTOCOLS['knn'].run(alone, ks=[1])[0].settings['leave_one_out']


def test_what_there_are_too_few_images_for_is_left_out_and_noted():
    small = task(num_images=12)
    assert [result.setting for result in PROTOCOLS['knn'].run(small, ks=(1, 10, 20))] == ['k=1', 'k=10']
    assert [result.setting for result in PROTOCOLS['fewshot'].run(small, shots=(1, 5))] == ['1 per class']
    assert small.notes == [
        'k-NN: 20 left out, at most 12 neighbours are possible',
        'few-shot: 5 left out, at most 3 images per class are possible',
    ]
    with pytest.raises(ValueError, match='k-NN: at most 12 neighbours are possible, wanted 13'):
        PROTOCOLS['knn'].run(small, ks=[13])


def test_nearest_class_mean_is_that_of_scikit_learn():
    """On unit vectors with means of equal length, the nearest mean is the most similar one."""
    support, queries = torch.randn(2, 40, 6)
    labels = torch.arange(40) % 4
    unit = torch.nn.functional.normalize(support)
    means = torch.stack([unit[labels == label].mean(dim=0) for label in range(4)])
    oracle = KNeighborsClassifier(1).fit(torch.nn.functional.normalize(means), np.arange(4))
    expected = oracle.predict(torch.nn.functional.normalize(queries))
    assert nearest_class_mean(queries, support, labels).tolist() == expected.tolist()


def test_episodes_with_fewer_classes_are_easier():
    features, labels = torch.randn(400, 8), torch.arange(400) % 10
    features = features + 1.5 * torch.randn(10, 8)[labels]
    args = (features[:200], labels[:200], features[200:], labels[200:], 5)
    everything, pairs = few_shot_accuracies(*args), few_shot_accuracies(*args, num_ways=2)
    assert pairs.mean() > everything.mean() + 0.03
    assert pairs.std() > 0
    with pytest.raises(ValueError, match='num_ways=11: must lie between 2 and the 10 classes'):
        few_shot_accuracies(*args, num_ways=11)


def test_which_protocols_run():
    assert choose_protocols(None, multi_label=False, has_test=True) == ['linear', 'knn', 'logreg', 'fewshot']
    assert choose_protocols(None, multi_label=False, has_test=False) == ['knn']
    assert choose_protocols(None, multi_label=True, has_test=True) == ['svm', 'lowshot']
    assert choose_protocols(['svm', 'knn', 'svm'], multi_label=False, has_test=True) == ['svm', 'knn']


@pytest.mark.parametrize(
    ('names', 'multi_label', 'has_test', 'message'),
    [
        (['kNN'], False, True, "no protocol 'kNN'; there are knn, linear"),
        (['knn'], True, True, 'knn takes images with one label each'),
        (['linear'], False, False, 'linear needs test images'),
    ],
)
def test_protocols_that_do_not_fit_are_refused(names, multi_label, has_test, message):
    with pytest.raises(ValueError, match=message):
        choose_protocols(names, multi_label, has_test)


def test_options():
    options = {'knn.ks': 5, 'linear.epochs': 3, 'linear.base_lrs': [1.0, 2.0]}
    assert split_options(options) == {'knn': {'ks': [5]}, 'linear': {'epochs': 3, 'base_lrs': [1.0, 2.0]}}
    with pytest.raises(ValueError, match="no protocol 'nn'"):
        split_options({'nn.k': 1})
    with pytest.raises(ValueError, match='knn has the settings ks, temperature'):
        split_options({'knn.k': 1})


def test_features_that_are_not_finite_are_refused():
    features = torch.ones(4, 2)
    check_finite(features, 'images')
    features[2, 1] = torch.nan
    features[3, 0] = torch.inf
    with pytest.raises(ValueError, match='the features of 2 of 4 images are NaN or infinite, first number 2'):
        check_finite(features, 'images')


def test_every_protocol_has_a_row():
    assert set(PROTOCOLS) == {*FAST, 'linear'}  # which needs images: test_evaluate
