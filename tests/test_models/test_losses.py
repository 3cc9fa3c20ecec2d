"""InfoNCE against closed forms and the naive sum."""

from math import log

import pytest
import torch

from mocox.models.losses import InfoNCELoss, info_nce


def test_equal_logits_give_ln_m():
    loss = info_nce(torch.zeros(3, 7, dtype=torch.float64), torch.tensor([0, 3, 6]))
    assert loss.item() == pytest.approx(log(7), rel=1e-15)


def test_two_keys_closed_form():
    # one positive at +d over one negative: -log sigmoid(d)
    loss = info_nce(torch.tensor([[2.0, -1.0]], dtype=torch.float64), torch.tensor([0]))
    assert loss.item() == pytest.approx(log(1 + torch.tensor(-3.0, dtype=torch.float64).exp().item()), rel=1e-14)


def test_matches_the_definition_term_by_term():
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 9, dtype=torch.float64), torch.randint(9, (5,))
    terms = [-log((row[y].exp() / row.exp().sum()).item()) for row, y in zip(logits, labels, strict=True)]
    assert info_nce(logits, labels).item() == pytest.approx(sum(terms) / 5, rel=1e-13)


def test_half_precision_logits_are_raised_to_float32():
    logits = torch.full((2, 4096), 3.0, dtype=torch.bfloat16)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = info_nce(logits, torch.tensor([0, 1]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(log(4096), rel=1e-6)


def test_loss_weight():
    logits, labels = torch.randn(2, 3), torch.tensor([0, 1])
    assert torch.equal(InfoNCELoss(loss_weight=2.5)(logits, labels), 2.5 * info_nce(logits, labels))
