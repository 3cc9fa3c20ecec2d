"""SplitBatchNorm equals one plain BatchNorm per group, and real processes with a group each."""

import pytest
import torch
import torch.distributed as torch_dist
from mmcv.cnn import build_norm_layer
from torch import nn

from mocox.models.batch_norm import SplitBatchNorm
from tests.support.processes import run_processes


def images(n: int = 12) -> torch.Tensor:
    return torch.randn(n, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 + 1


@pytest.mark.parametrize('shape', ['2-D', '4-D'])
def test_equals_plain_batch_norm_per_group(shape):
    x = images() if shape == '4-D' else images().flatten(2).mean(2)
    x.requires_grad_()
    split = SplitBatchNorm(3, group_size=4).double()
    nn.init.uniform_(split.weight), nn.init.uniform_(split.bias)
    plain = [nn.BatchNorm2d(3).double() if shape == '4-D' else nn.BatchNorm1d(3).double() for _ in range(3)]
    for m in plain:
        m.load_state_dict(split.state_dict())
    out = split(x)
    expected = torch.empty_like(x)
    for g, m in enumerate(plain):
        expected[g::3] = m(x[g::3])
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    for name in ('running_mean', 'running_var'):
        mean = torch.stack([getattr(m, name) for m in plain]).mean(dim=0)
        torch.testing.assert_close(getattr(split, name), mean, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(out)
    (ours,) = torch.autograd.grad((out * weights).sum(), x, retain_graph=True)
    (theirs,) = torch.autograd.grad((expected * weights).sum(), x)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_evaluation_uses_the_running_statistics():
    split, plain = SplitBatchNorm(3, group_size=4).double(), nn.BatchNorm2d(3).double()
    split(images())
    plain.load_state_dict(split.state_dict())
    assert torch.equal(split.eval()(images()), plain.eval()(images()))


@pytest.mark.parametrize(('batch', 'groups'), [(256, 8), (32, 1), (20, 1), (100, 2), (97, 1), (96, 3)])
def test_groups(batch, groups):
    assert SplitBatchNorm(3).num_groups(batch) == groups


def test_without_affine_and_statistics():
    split = SplitBatchNorm(3, group_size=4, affine=False, track_running_stats=False).double()
    out = split(images())
    torch.testing.assert_close(out[0::3].mean(dim=(0, 2, 3)), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)


def test_is_what_configs_name():
    layer = build_norm_layer(dict(type='mocox.SplitBN', group_size=4), 3)[1]
    assert isinstance(layer, SplitBatchNorm) and layer.group_size == 4


def test_bad_group_size():
    with pytest.raises(ValueError, match='group_size=1'):
        SplitBatchNorm(3, group_size=1)


def _normalise_own_rows() -> torch.Tensor:
    rank, size = torch_dist.get_rank(), torch_dist.get_world_size()
    return nn.BatchNorm2d(3).double()(images()[rank::size]).detach()


@pytest.mark.dist
def test_equals_processes_with_a_group_each():
    results = run_processes(_normalise_own_rows, 2)
    out = SplitBatchNorm(3, group_size=6).double()(images())
    for rank, expected in enumerate(results):
        torch.testing.assert_close(out[rank::2], expected, rtol=1e-12, atol=1e-12)
