import inspect

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensor, FakeTensorMode

from mocox import dist
from mocox.models import batch_norm
from mocox.models.batch_norm import SyncBatchNorm, _Formulas
from mocox.registry import MODELS
from tests.support.processes import run_processes

SHAPES = [(6, 3), (6, 3, 4, 5)]


def step(x: torch.Tensor, weights: torch.Tensor, num_steps: int = 2, **kwargs) -> dict[str, torch.Tensor]:
    """A few training steps whose loss weighs every output; what a layer computes and what it learns from."""
    bn = SyncBatchNorm(x.shape[1], **kwargs).to(x.dtype)
    if bn.affine:
        with torch.no_grad():
            bn.weight.copy_(torch.linspace(0.5, 2, x.shape[1]))
            bn.bias.copy_(torch.linspace(-1, 1, x.shape[1]))
    x = x.clone().requires_grad_()
    for _ in range(num_steps):
        y = bn(x)
        (y.sin() * weights).sum().backward()
    grads = {f'grad.{name}': parameter.grad for name, parameter in bn.named_parameters()}
    return dict(y=y.detach(), grad_x=x.grad, **grads, **bn.state_dict())


def step_on_shard(x: torch.Tensor, weights: torch.Tensor, sizes: list[int], kwargs: dict) -> dict[str, torch.Tensor]:
    return step(x.split(sizes)[dist.rank()], weights.split(sizes)[dist.rank()], **kwargs)


@pytest.mark.dist
@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize(
    ('sizes', 'kwargs'),
    [
        ([3, 3], {}),
        ([5, 1], dict(momentum=0.3, eps=1e-2)),  # unequal shares, one of them a single row
        ([3, 3], dict(affine=False, momentum=None)),
        ([3, 3], dict(track_running_stats=False)),
    ],
)
def test_two_processes_equal_one_on_the_whole_batch(shape, sizes, kwargs):
    x = 3 + 2 * torch.randn(shape, dtype=torch.float64)
    weights = torch.randn(shape, dtype=torch.float64)

    first, second = run_processes(step_on_shard, 2, x, weights, sizes, kwargs)

    expected = step(x, weights, **kwargs)
    for name in ('y', 'grad_x'):
        torch.testing.assert_close(torch.cat([first[name], second[name]]), expected.pop(name), rtol=0, atol=1e-10)
    for name, value in expected.items():
        if name.startswith('grad.'):  # each process holds its part; DistributedDataParallel adds them up
            torch.testing.assert_close(first[name] + second[name], value, rtol=0, atol=1e-10)
        else:
            torch.testing.assert_close(first[name], value, rtol=0, atol=1e-10)
            torch.testing.assert_close(second[name], value, rtol=0, atol=1e-10)


def normalise_large_mean() -> torch.Tensor:
    return SyncBatchNorm(1)(torch.tensor([[1000.0], [1000.1]]) + dist.rank() * 0.2).detach()


@pytest.mark.dist
def test_variance_does_not_cancel_in_float32():
    """The mean of squares minus the square of the mean would lose the variance of 1000.0, .1, .2, .3 in float32."""
    y = torch.cat(run_processes(normalise_large_mean, 2)).double().squeeze()
    x = torch.tensor([1000.0, 1000.1, 1000.2, 1000.3], dtype=torch.float32).double()
    expected = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(y, expected, rtol=0, atol=2e-3)


def train_and_test_under_autocast() -> tuple[torch.Tensor, torch.Tensor]:
    bn = SyncBatchNorm(4)
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(dist.rank()))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        trained = bn(x.bfloat16())
    return trained.detach(), bn.eval()(x).detach()


@pytest.mark.dist
def test_autocast_and_eval_in_two_processes():
    results = run_processes(train_and_test_under_autocast, 2)
    trained = torch.cat([train for train, _ in results])
    assert trained.dtype == torch.bfloat16
    x = torch.cat([torch.randn(8, 4, generator=torch.Generator().manual_seed(rank)) for rank in range(2)])
    reference = nn.BatchNorm1d(4)
    torch.testing.assert_close(trained.float(), reference(x.bfloat16().float()).detach(), rtol=0, atol=2e-2)
    torch.testing.assert_close(torch.cat([test for _, test in results]), reference.eval()(x).detach())


@pytest.mark.parametrize('shape', SHAPES)
def test_one_process_is_torch_batch_norm(shape):
    x = torch.randn(shape)
    bn, reference = SyncBatchNorm(3), (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(3)
    assert torch.equal(bn(x), reference(x))
    assert torch.equal(bn.eval()(x), reference.eval()(x))
    assert list(bn.state_dict()) == list(reference.state_dict())
    assert torch.equal(bn(x), F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias))


def sync_in_a_group_of_one() -> torch.Tensor:
    return SyncBatchNorm(2)(torch.tensor([[1.0, 2.0], [3.0, 6.0]])).detach()


@pytest.mark.dist
def test_a_process_group_of_one():
    y = run_processes(sync_in_a_group_of_one, 1)[0]
    torch.testing.assert_close(y, torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), rtol=0, atol=1e-4)


def test_builds_on_the_meta_device():
    with torch.device('meta'):
        assert SyncBatchNorm(4)(torch.empty(2, 4, 3, 3)).shape == (2, 4, 3, 3)


@pytest.mark.parametrize('shape', [(1, 3), (1, 3, 1, 1)])
def test_batch_of_one_is_refused_in_training(shape):
    bn = SyncBatchNorm(3)
    with pytest.raises(ValueError, match='batch size 1.*train_dataloader.batch_size'):
        bn(torch.zeros(shape))
    assert torch.isfinite(bn.eval()(torch.zeros(shape))).all()


def test_mmcv_and_mmpretrain_build_it_under_batch_norm_names():
    name, layer = build_norm_layer(dict(type='mocox.SyncBN', eps=1e-6), 8, postfix=1)
    assert (name, type(layer), layer.eps) == ('bn1', SyncBatchNorm, 1e-6)
    synced, plain = (
        MODELS.build(dict(type='mmpretrain.ResNet', depth=18, norm_cfg=dict(type=kind)))
        for kind in ('mocox.SyncBN', 'BN')
    )
    assert isinstance(synced.bn1, SyncBatchNorm)
    assert isinstance(synced.layer1[0].bn2, SyncBatchNorm)
    assert synced.state_dict().keys() == plain.state_dict().keys()


def wrap_in_ddp() -> torch.Tensor:
    layers = nn.Sequential(nn.Linear(2, 2), SyncBatchNorm(2))
    model = nn.parallel.DistributedDataParallel(layers, broadcast_buffers=False)
    model(torch.randn(3, 2)).square().sum().backward()
    return model.module[1].weight.grad


@pytest.mark.dist
def test_distributed_data_parallel_accepts_it_on_the_cpu():
    first, second = run_processes(wrap_in_ddp, 2)
    assert torch.equal(first, second)


@pytest.mark.parametrize('kernel', [name for name in vars(_Formulas) if name.startswith('batch_norm')])
def test_formulas_take_what_the_kernels_for_gpus_take(kernel):
    """So that what is proven here on CPUs calls those with the right arguments."""
    theirs = getattr(torch.ops.aten, kernel).default._schema
    ours = inspect.signature(getattr(_Formulas, kernel)).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in ours):
        assert [argument.name for argument in theirs.arguments[5:]] == ['input_g', 'weight_g', 'bias_g']
        theirs_names, ours = [argument.name for argument in theirs.arguments[:5]], list(ours)[:-1]
    else:
        theirs_names = [argument.name for argument in theirs.arguments]
    renamed = dict(
        input='x', mean='mean', invstd='invstd', running_mean='running_mean', grad_out='grad', count='counts'
    )
    expected = [renamed.get(name, name) for name in theirs_names]
    if kernel == 'batch_norm_gather_stats_with_counts':
        expected[1:3] = ['means', 'invstds']
    assert [parameter.name for parameter in ours] == expected


def test_on_a_gpu_the_host_waits_for_nothing(monkeypatch):
    """On pretended CUDA tensors, reading a value back raises, as torch.nn.SyncBatchNorm's mask of processes does."""
    monkeypatch.setattr(dist, 'world_size', lambda: 2)
    monkeypatch.setattr(dist, 'gather_rows', lambda x: torch.cat([x, x]))
    monkeypatch.setattr(batch_norm, '_kernels', lambda x: _Formulas)  # torch's have no shapes to pretend with
    mode = FakeTensorMode()
    bn = SyncBatchNorm(3)
    for module_values in (bn._parameters, bn._buffers):
        for name, value in module_values.items():
            module_values[name] = FakeTensor(mode, value.detach().to('meta'), torch.device('cuda'))
    with mode:
        x = FakeTensor(mode, torch.empty(4, 3, 5, 5, device='meta'), torch.device('cuda'))
        y = bn(x)
        assert (y.shape, y.device.type) == (x.shape, 'cuda')
        with pytest.raises(DynamicOutputShapeException):
            x[x[:, 0, 0, 0] > 0]
