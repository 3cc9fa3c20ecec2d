"""ContrastiveHead against the definition, on one process and on two."""

import pytest
import torch
import torch.nn.functional as F

from mocox.models.heads import ContrastiveHead, l2_normalize
from tests.support.processes import run_processes


def naive_loss(z: torch.Tensor, k: torch.Tensor, temperature: float) -> torch.Tensor:
    """Equation 1, one query at a time."""
    terms = []
    for i in range(len(z)):
        q = z[i] / z[i].norm()
        similarity = torch.stack([q @ (key / key.norm()) for key in k]) / temperature
        terms.append(similarity.exp().sum().log() - similarity[i])
    return torch.stack(terms).mean()


@pytest.mark.parametrize('temperature', [0.07, 0.2, 1.0])
def test_equals_the_definition(temperature):
    torch.manual_seed(0)
    z, k = torch.randn(2, 6, 8, dtype=torch.float64)
    loss = ContrastiveHead(temperature=temperature).loss(z, l2_normalize(k))
    assert loss.item() == pytest.approx(naive_loss(z, k, temperature).item(), rel=1e-13)


def test_predictor_makes_the_queries():
    head = ContrastiveHead(dict(type='NonLinearNeck', in_channels=8, hid_channels=8, out_channels=4)).eval()
    z = torch.randn(3, 8)
    assert torch.equal(head.query(z), F.normalize(head.predictor((z,))[0], dim=1))


def test_float32_under_autocast():
    z, k = torch.randn(2, 6, 8).bfloat16()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = ContrastiveHead(temperature=0.2).loss(z, l2_normalize(k))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(naive_loss(z.double(), k.double(), 0.2).item(), rel=1e-5)


def test_zero_rows_stay_finite_in_half_precision():
    assert torch.isfinite(l2_normalize(torch.zeros(2, 4, dtype=torch.float16))).all()


@pytest.mark.parametrize('temperature', [0.0, -1.0, float('nan')])
def test_bad_temperature(temperature):
    with pytest.raises(ValueError, match='temperature='):
        ContrastiveHead(temperature=temperature)


def _rank_losses(z: torch.Tensor, k: torch.Tensor) -> tuple[float, torch.Tensor]:
    rank = torch.distributed.get_rank()
    mine = z[rank * 3 : rank * 3 + 3].clone().requires_grad_()
    loss = ContrastiveHead(temperature=0.2).loss(mine, k)
    loss.backward()
    return loss.item(), mine.grad


@pytest.mark.dist
def test_two_processes_equal_one_on_the_whole_batch():
    torch.manual_seed(0)
    z, k = torch.randn(2, 6, 8, dtype=torch.float64)
    k = l2_normalize(k)
    results = run_processes(_rank_losses, 2, z, k)
    z.requires_grad_()
    loss = ContrastiveHead(temperature=0.2).loss(z, k)
    loss.backward()
    assert sum(r[0] for r in results) / 2 == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(torch.cat([r[1] for r in results]) / 2, z.grad, rtol=1e-10, atol=1e-14)
