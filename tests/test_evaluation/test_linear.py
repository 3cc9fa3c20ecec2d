"""Linear classifiers against torch's own SGD and scikit-learn; the frozen encoder stays bit-equal."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mocox.datasets import ImageFiles
from mocox.evaluation.encoder import Encoder
from mocox.evaluation.linear import (
    V1_V2,
    V3,
    LinearGrid,
    LinearRecipe,
    linear_scores,
    logistic_regression,
    predict,
    train_grid,
)
from mocox.evaluation.sampling import draw_per_class, hold_out
from tests.test_evaluation.images import write_images

LRS = [0.1, 0.7, 3.0]


def clusters(num_images=60, num_classes=3, num_features=5, spread=1.0):
    centres = 3 * torch.randn(num_classes, num_features)
    labels = torch.arange(num_images) % num_classes
    return centres[labels] + spread * torch.randn(num_images, num_features), labels


@pytest.mark.parametrize('number', range(len(LRS)))
def test_each_classifier_of_the_grid_is_one_trained_alone_by_sgd(number):
    features, labels = clusters()
    grid = LinearGrid(5, 3, LRS, seed=4)
    alone = nn.Linear(5, 3)
    with torch.no_grad():
        alone.weight.copy_(grid.weight[number])
        alone.bias.zero_()
    sgd = torch.optim.SGD(alone.parameters(), LRS[number], momentum=0.9)
    for step in range(12):
        batch = slice(5 * step, 5 * step + 5)
        factor = 1 if step < 6 else 0.1
        sgd.param_groups[0]['lr'] = LRS[number] * factor
        loss = F.cross_entropy(alone(features[batch]), labels[batch])
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        torch.testing.assert_close(grid.step(features[batch], labels[batch], factor)[number], loss.detach())
    torch.testing.assert_close(grid.weight[number], alone.weight)
    torch.testing.assert_close(grid.bias[number], alone.bias)
    assert grid.predict(features, block_size=7)[number].tolist() == alone(features).argmax(dim=1).tolist()


def test_a_learning_rate_that_diverges_does_not_harm_the_others():
    features, labels = clusters()
    both, alone = LinearGrid(5, 3, [0.1, float('inf')]), LinearGrid(5, 3, [0.1])
    for _ in range(20):
        both.step(features, labels)
        alone.step(features, labels)
    assert not both.weight[1].isfinite().all()
    torch.testing.assert_close(both.weight[0], alone.weight[0])


def test_schedules_are_the_published_ones():
    assert [V1_V2.lr_factor(epoch) for epoch in (0, 59, 60, 79, 80, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert [V3.lr_factor(epoch) for epoch in (0, 30, 45, 60)] == pytest.approx([1, 0.75, 0.5, 0.25])


@pytest.mark.parametrize('penalty', [1.0, 1e-3])
@pytest.mark.parametrize('block_size', [7, 1000])
def test_logistic_regression_is_that_of_scikit_learn(penalty, block_size):
    features, labels = clusters(spread=3.0)
    solution = logistic_regression(features.double(), labels, 3, penalty, tolerance=1e-9, block_size=block_size)
    oracle = LogisticRegression(C=1 / (penalty * 60), tol=1e-10, max_iter=10_000).fit(features.double(), labels)
    np.testing.assert_allclose(solution[:, :-1], oracle.coef_, atol=1e-5)
    difference = solution[:, -1].numpy() - oracle.intercept_  # a constant added to all biases changes nothing
    np.testing.assert_allclose(difference, difference.mean(), atol=1e-5)
    assert linear_scores(features.double(), solution).argmax(dim=1).tolist() == oracle.predict(features).tolist()


class LargestTensor(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that is made, views aside."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        inputs = {x.untyped_storage().data_ptr() for x in tree_leaves(args) if isinstance(x, torch.Tensor)}
        for x in tree_leaves(made):
            if isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() not in inputs:
                self.largest = max(self.largest, x.numel())
        return made


def test_logistic_regression_never_copies_the_features():
    """ImageNet's features of a ResNet-50 are 10.5 GB: a part, freed from mean and spread, exists block by block."""
    features, labels = clusters(num_images=600, num_features=50)
    rows, scaling = torch.arange(0, 600, 2), (features.mean(0), features.std(0))
    with LargestTensor() as seen:
        solution = logistic_regression(features, labels, 3, 1e-2, block_size=40, rows=rows, scaling=scaling)
        predicted = predict(features, solution, rows, scaling, block_size=40)
    assert seen.largest <= 40 * 50
    copies = ((features - scaling[0]) / scaling[1])[rows]
    torch.testing.assert_close(solution, logistic_regression(copies, labels[rows], 3, 1e-2, block_size=40))
    assert torch.equal(predicted, linear_scores(copies, solution).argmax(1))


def test_logistic_regression_needs_a_penalty():
    with pytest.raises(ValueError, match='penalty=0'):
        logistic_regression(torch.eye(2), torch.arange(2), 2, penalty=0)


class MeanColour(nn.Module):
    """Three features and a state that may move."""

    def __init__(self, moves: bool) -> None:
        super().__init__()
        self.moves = moves
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer('count', torch.zeros(()))

    def forward(self, images):
        self.count += self.moves
        return self.scale * images.mean(dim=(2, 3))


def train(folder, moves=False, **changes):
    dataset = ImageFiles(str(folder), dict(type='CenterCrop', size=8, resize=8), data_prefix='train', with_labels=True)
    crops = dict(type='RandomResizedCrops', size=8, num_views=1)
    settings = dict(crops=crops, recipe=LinearRecipe(12, 8), base_lrs=LRS)
    model = Encoder(MeanColour(moves))
    return train_grid(model, dataset, torch.arange(len(dataset)), 2, **(settings | changes)), dataset


def test_published_probe_learns_what_is_easy_and_repeats_itself(tmp_path):
    write_images(tmp_path, train=(8, 8))
    grid, dataset = train(tmp_path)
    levels = torch.stack([dataset[i]['inputs'][0].float().mean(dim=(1, 2)) for i in range(16)])
    features = (levels - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor([58.395, 57.12, 57.375])
    assert (grid.predict(features) == torch.tensor(dataset.labels)).all()
    assert torch.equal(train(tmp_path)[0].weight, grid.weight)
    assert not torch.equal(train(tmp_path, seed=1)[0].weight, grid.weight)


def test_learning_rates_are_for_256_images(tmp_path):
    """One step of plain gradient descent from zero bias: the bias is ``-lr * 8 / 256 * gradient``."""
    write_images(tmp_path, train=(4, 4))
    (grid, _) = train(tmp_path, recipe=LinearRecipe(1, 8), base_lrs=[32.0, 64.0])
    assert torch.allclose(2 * grid.bias[0], grid.bias[1])
    assert grid.lrs.tolist() == [1.0, 2.0]


def test_an_encoder_that_changes_is_an_error(tmp_path):
    write_images(tmp_path, train=(4, 4))
    with pytest.raises(RuntimeError, match='the frozen backbone changed'):
        train(tmp_path, moves=True)


@pytest.mark.parametrize(
    ('fraction', 'limit', 'expected'), [(0.1, 10_000, [2, 1, 0]), (0.5, 10_000, [10, 2, 0]), (0.5, 5, [4, 1, 0])]
)
def test_hold_out_takes_from_every_class(fraction, limit, expected):
    labels = torch.tensor([0] * 20 + [1] * 4 + [2])[torch.randperm(25)]
    learn, held_out = hold_out(labels, fraction, limit)
    assert sorted([*learn.tolist(), *held_out.tolist()]) == list(range(25))
    assert torch.bincount(labels[held_out], minlength=3).tolist() == expected
    assert not torch.equal(hold_out(labels, fraction, limit, seed=1)[1], held_out)


def test_hold_out_needs_a_class_with_two_images():
    with pytest.raises(ValueError, match='every class has one image'):
        hold_out(torch.arange(5))


def test_draws_per_class():
    labels = torch.tensor([0, 1] * 10)
    rows = draw_per_class(labels, 3, seed=0)
    assert labels[rows].bincount().tolist() == [3, 3]
    assert len(rows.unique()) == 6
    assert not torch.equal(draw_per_class(labels, 3, seed=1), rows)
