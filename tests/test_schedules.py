"""Chance and floor of every loss: the algorithm's own loss on the configuration that each of them stands for."""

from math import exp, isnan, log

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mocox.models.losses import info_nce
from mocox.registry import MODELS
from mocox.schedules import (
    in_batch_chance_level,
    in_batch_floor,
    info_nce_floor,
    progress_percent,
    queue_chance_level,
)
from tests.support.oracles import simplex
from tests.support.small_models import config

N, K, T = 6, 9, 0.3


def algorithm(kind: str, **settings) -> nn.Module:
    """With a head that compares the projections themselves."""
    head = dict(type='ContrastiveHead', temperature=T, loss=dict(type='InfoNCELoss', loss_weight=3.0))
    cfg = {**config(), **settings, 'type': kind, 'head': head}
    return MODELS.build(cfg).double()


def loss(model: nn.Module, z: torch.Tensor, negatives: torch.Tensor | None) -> float:
    """The algorithm's loss when both encoders give z (N, D) for both views and the queue holds ``negatives``."""
    model.encode_queries = lambda views: [z] * len(views)
    model.gather_keys = lambda views: lambda: [F.normalize(z, dim=1)] * len(views)
    model.encode_combinations = lambda x: z.repeat(6, 1)  # two of four patches
    for name in ('queue', 'queue_x1'):
        if negatives is not None and getattr(model, name) is not None:
            getattr(model, name).keys = negatives.T.clone()
            getattr(model, name).filled.fill_(K)
    return model.loss([torch.zeros(len(z), 3, 8, 8)] * 2)['loss'].item()


QUEUES = [('MoCo', dict()), ('MoCo', dict(symmetric=True)), ('MoBY', dict())]


@pytest.mark.parametrize('kind', ['MoCoV3', 'FastMoCo'])
def test_in_batch(kind):
    model = algorithm(kind)
    assert loss(model, torch.ones(N, 4, dtype=torch.float64), None) == pytest.approx(model.chance_level(N), rel=1e-12)
    assert loss(model, simplex(N), None) == pytest.approx(model.floor_level(N), rel=1e-12)
    assert model.num_keys(N) == N
    assert model.queue_fill() == 1


@pytest.mark.parametrize(('kind', 'settings'), QUEUES, ids=['v1, v2', 'symmetric', 'MoBY'])
def test_queue(kind, settings):
    model = algorithm(kind, queue_len=K, feat_dim=K + 1, **settings)
    alike, corners = torch.ones(K + 1, K + 1, dtype=torch.float64) / (K + 1) ** 0.5, simplex(K + 1)
    assert model.queue_fill() == 0
    assert loss(model, alike[:1].repeat(N, 1), alike[1:]) == pytest.approx(model.chance_level(N), rel=1e-12)
    assert loss(model, corners[:1].repeat(N, 1), corners[1:]) == pytest.approx(model.floor_level(N), rel=1e-12)
    assert model.num_keys(N) == K + 1
    assert model.queue_fill() == 1


def test_nothing_lies_below_the_floor():
    """Five images in eight dimensions, both encoders free to place them: the optimum found is the closed form."""
    torch.manual_seed(0)
    z = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([z], max_iter=300, tolerance_grad=1e-12, line_search_fn='strong_wolfe')

    def closure():
        optimizer.zero_grad()
        unit = F.normalize(z, dim=1)
        value = info_nce(unit @ unit.T / T, torch.arange(5))
        value.backward()
        return value

    optimizer.step(closure)
    assert closure().item() == pytest.approx(info_nce_floor(5, T), rel=1e-6)


@pytest.mark.parametrize(
    ('num_keys', 'temperature', 'chance', 'floor'),
    [
        *[(4096, 1.0, 33.27, 29.27), (2048, 1.0, 30.50, 26.50), (1024, 1.0, 27.73, 23.73), (512, 1.0, 24.95, 20.96)],
        *[(256, 1.0, 22.18, 18.19), (4096, 0.2, 6.65, 2.68), (1024, 0.2, 5.55, 1.65), (512, 0.2, 4.99, 1.19)],
        (256, 0.2, 4.44, 0.79),
    ],
)
def test_moco_v3_by_hand(num_keys, temperature, chance, floor):
    """Two directions times 2 T times ln N; with T=1 the floor lies 4 below, whatever the batch."""
    assert in_batch_chance_level(num_keys, temperature) == pytest.approx(chance, abs=0.0051)
    assert in_batch_floor(num_keys, temperature) == pytest.approx(floor, abs=0.0051)


@pytest.mark.parametrize(
    ('length', 'temperature', 'chance', 'floor'),
    [(65536, 0.2, 11.09, 6.09), (65536, 0.07, 11.09, 0.04), (4096, 0.2, 8.32, 3.35)],
)
def test_queue_by_hand(length, temperature, chance, floor):
    assert queue_chance_level(length, length, temperature) == pytest.approx(chance, abs=0.0051)
    assert info_nce_floor(length + 1, temperature) == pytest.approx(floor, abs=0.0051)


def test_progress():
    chance, floor = log(64), log(64) - 3
    assert [progress_percent(loss, chance, floor) for loss in (chance, chance - 1.5, floor)] == [0, 50, 100]
    assert progress_percent(chance + 0.3, chance, floor) == pytest.approx(-10)


def test_no_progress_without_keys():
    empty = queue_chance_level(0, K, T)
    assert empty == pytest.approx(log(1 + K * exp(-1 / T)))
    assert isnan(progress_percent(empty, empty, empty - 0.005))
    assert info_nce_floor(1, T) == 0
