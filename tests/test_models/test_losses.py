"""InfoNCE against closed forms and the naive sum."""

from math import log

import pytest
import torch

from mocox.models.heads import ContrastiveHead, l2_normalize
from mocox.models.losses import CHUNK_LOGITS, InfoNCELoss, chunked_info_nce, contrastive_logits, info_nce
from tests.support.gradients import saved_bytes


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


def case(with_positives: bool, n: int = 7, m: int = 11, d: int = 5) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Queries, keys and one positive each or none, and labels."""
    torch.manual_seed(0)
    q, keys, positives = (torch.randn(rows, d, dtype=torch.float64, requires_grad=True) for rows in (n, m, n))
    if with_positives:
        return [q, keys, positives], torch.zeros(n, dtype=torch.long)
    return [q, keys], torch.randint(m, (n,))


def chunked(inputs: list[torch.Tensor], labels: torch.Tensor, chunk_logits: int) -> torch.Tensor:
    q, keys, *positives = inputs
    return chunked_info_nce(q, keys, labels, 0.2, *positives, chunk_logits=chunk_logits)


@pytest.mark.parametrize('with_positives', [False, True], ids=['batch', 'queue'])
@pytest.mark.parametrize('chunk_logits', [1, 25, 1000])  # one row, 2 of 7 rows with a rest, all rows
def test_chunks_are_exact(with_positives, chunk_logits):
    inputs, labels = case(with_positives)
    q, keys, *positives = inputs
    plain = info_nce(contrastive_logits(q, keys, 0.2, *positives), labels)
    ours = chunked(inputs, labels, chunk_logits)
    assert ours.item() == pytest.approx(plain.item(), rel=1e-12)
    gradients = (torch.autograd.grad(3 * loss, inputs) for loss in (ours, plain))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize('with_positives', [False, True])
def test_gradient_of_chunks_against_finite_differences(with_positives):
    inputs, labels = case(with_positives, n=4, m=5, d=3)
    assert torch.autograd.gradcheck(lambda *x: chunked(list(x), labels, 12), inputs)


def test_chunks_make_only_the_gradients_that_are_wanted():
    (q, keys), labels = case(False)
    chunked([q, keys.detach()], labels, 25).backward()
    assert q.grad is not None and keys.grad is None
    with torch.no_grad():
        assert not chunked([q, keys], labels, 25).requires_grad


def test_the_head_takes_chunks_above_a_size_and_keeps_no_logits():
    q, k = (l2_normalize(x) for x in torch.randn(2, 2200, 4))
    assert q.shape[0] ** 2 > CHUNK_LOGITS
    z = q.clone().requires_grad_()
    loss, kept = saved_bytes(lambda: ContrastiveHead(temperature=0.2).loss(z, k))
    plain = info_nce(contrastive_logits(q, k, 0.2), torch.arange(2200))
    assert loss.item() == pytest.approx(plain.item(), rel=1e-6)
    assert kept < 10 * q.nbytes < 4 * CHUNK_LOGITS
    queue = saved_bytes(lambda: ContrastiveHead(temperature=0.2).loss(z, k, k))[1]
    assert queue < 20 * q.nbytes


class Doubled(InfoNCELoss):
    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(logits, labels)


def test_a_loss_of_your_own_gets_all_logits(monkeypatch):
    monkeypatch.setattr('mocox.models.heads.CHUNK_LOGITS', 1)
    z, k = torch.randn(2, 6, 8, dtype=torch.float64)
    weighted, doubled = ContrastiveHead(), ContrastiveHead()
    weighted.loss_module, doubled.loss_module = InfoNCELoss(loss_weight=2.0), Doubled()
    losses = [head.loss(z, l2_normalize(k)).item() for head in (weighted, doubled)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)  # the first one in chunks, the second from logits
