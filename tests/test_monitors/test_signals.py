"""Signals against closed forms."""

from math import exp, log

import pytest
import torch
from torch.nn import functional as F

from mocox.monitors.signals import (
    FeatureBank,
    contrast_signals,
    effective_rank,
    feature_std,
    measure,
    uniformity,
)
from tests.support.oracles import simplex
from tests.support.pretended import PretendedGPU

T = 0.2


def test_a_simplex():
    z, labels = simplex(5).float(), torch.arange(5)
    signals = contrast_signals(z @ z.T / T, labels, T)
    assert signals['contrastive_top1'] == 1
    assert signals['positive_cosine'].item() == pytest.approx(1)
    assert signals['negative_cosine'].item() == pytest.approx(-1 / 4)
    assert signals['alignment'].item() == pytest.approx(0, abs=1e-6)
    # All pairs have the squared distance 2 - 2 * (-1/4).
    assert uniformity(z).item() == pytest.approx(-2 * 2.5)


def test_half_right():
    """Of two queries against three keys one finds its positive; by hand."""
    cosines = torch.tensor([[0.9, 0.1, 0.2], [0.5, 0.3, -0.2]])
    signals = contrast_signals(cosines / T, torch.tensor([0, 1]), T)
    assert signals['contrastive_top1'] == 0.5
    assert signals['positive_cosine'].item() == pytest.approx(0.6)
    assert signals['negative_cosine'].item() == pytest.approx((0.1 + 0.2 + 0.5 - 0.2) / 4)
    assert signals['alignment'].item() == pytest.approx((0.2 + 1.4) / 2)


def test_a_tie_finds_nothing():
    assert contrast_signals(torch.ones(4, 6), torch.zeros(4, dtype=torch.long), T)['contrastive_top1'] == 0


def test_spread_and_rank():
    assert feature_std(torch.ones(8, 4)).item() == pytest.approx(0, abs=1e-3)
    assert effective_rank(torch.ones(8, 4)).item() == pytest.approx(1, abs=1e-3)
    corners = torch.cat([torch.eye(4), -torch.eye(4)])  # mean zero
    assert feature_std(7 * corners).item() == pytest.approx(1)
    assert effective_rank(7 * corners).item() == pytest.approx(4, rel=1e-4)
    assert effective_rank(corners.T).item() == pytest.approx(4, rel=1e-4)
    # Singular values 3 and 1: entropy of (3/4, 1/4).
    expected = exp(-(0.75 * log(0.75) + 0.25 * log(0.25)))
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0, 0.0]))).item() == pytest.approx(expected, rel=1e-4)
    assert effective_rank(torch.full((4, 3), torch.nan)).item() == pytest.approx(1, abs=0.01)


def test_measure_takes_what_there_is():
    z = simplex(6).float()
    observed = dict(q=z, keys=z, labels=torch.arange(6), features=torch.eye(6))
    full = measure(observed, T)
    assert full['info_nce'].item() == pytest.approx(log(1 + 5 * exp(-1.2 / T)), rel=1e-4)
    q = z[:1].repeat(4, 1)
    queue = dict(q=q, keys=z[1:], labels=torch.zeros(4, dtype=torch.long), positives=q)
    assert measure(queue, T)['info_nce'].item() == pytest.approx(full['info_nce'].item(), rel=1e-4)
    assert measure(queue, T)['negative_cosine'].item() == pytest.approx(-1 / 5)
    assert set(measure(dict(features=torch.eye(3)), T)) == {'feature_std', 'effective_rank'}
    assert measure({}, T) == {}


def blobs(num: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three tight directions, so that neighbours share their class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num) % 3
    return F.one_hot(labels, 8) + 0.05 * torch.randn(num, 8, generator=generator), labels


def test_bank_classifies():
    bank = FeatureBank(size=30, num_classes=10)
    features, labels = blobs(60)
    for start in range(0, 60, 12):
        bank.append(features[start : start + 12], labels[start : start + 12], torch.arange(start, start + 12))
    assert bank.accuracy(5, 0.07) == 1
    assert bank.count == 30
    kept = set(bank.indices.tolist())
    assert kept == set(range(30, 60))  # the newest, although 12 does not divide 30


def test_bank_on_random_labels_is_at_chance():
    generator = torch.Generator().manual_seed(0)
    bank = FeatureBank(size=2048, num_classes=10)
    features, labels = torch.randn(2048, 16, generator=generator), torch.randint(4, (2048,), generator=generator)
    bank.append(features, labels, torch.arange(2048))
    assert bank.accuracy(20, 0.07).item() == pytest.approx(0.25, abs=0.115)  # 128 queries: 3 standard deviations


def test_an_image_is_not_its_own_neighbour():
    """Every image twice, with a label of its own: whoever finds itself is right, whoever does not is wrong."""
    bank = FeatureBank(size=16, num_classes=10)
    features, _ = blobs(8)
    for _ in range(2):
        bank.append(features, torch.arange(8), torch.arange(8))
    assert bank.accuracy(1, 0.07) == 0


def test_no_answer_from_a_nearly_empty_bank():
    bank = FeatureBank(size=4096, num_classes=10)
    features, labels = blobs(500)
    bank.append(features, labels, torch.arange(500))
    assert bank.accuracy(20, 0.07) is None


def test_not_a_number_in_the_bank():
    bank = FeatureBank(size=6, num_classes=10)
    bank.append(torch.full((6, 4), torch.nan), torch.zeros(6, dtype=torch.long), torch.arange(6))
    assert bank.accuracy(2, 0.07) is not None


def test_apples_gpus_are_asked_for_no_eigenvalues():
    """Torch has none there: the host makes them."""
    gpu = PretendedGPU('mps')
    with gpu.mode:
        features = gpu.tensor(8, 5)
        assert features.device.type == 'mps'
        assert effective_rank(features).device.type == 'cpu'
