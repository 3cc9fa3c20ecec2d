"""LARS against its formula, parameter by parameter, and against plain SGD where the two meet."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mocox.engine.lars import LARS


def naive_step(params, grads, buffers, lr, momentum, weight_decay, trust):
    """The four lines of the docstring."""
    for p, g, mu in zip(params, grads, buffers, strict=True):
        if p.ndim > 1:
            g = g + weight_decay * p
            if p.norm() > 0 and g.norm() > 0:
                g = trust * p.norm() / g.norm() * g
        mu.mul_(momentum).add_(g)
        p.sub_(lr * mu)


def tensors(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, dtype=torch.float64, generator=generator) for s in [(4, 3), (4,), (2, 3, 3, 3), (1,), ()]]


def test_equals_the_formula_with_a_moving_learning_rate():
    settings = dict(momentum=0.9, weight_decay=1e-2, trust_coefficient=0.001)
    ours = [nn.Parameter(t) for t in tensors(0)]
    optimizer = LARS(ours, lr=1.0, **settings)
    expected, buffers = tensors(0), [torch.zeros_like(t) for t in tensors(0)]
    for step in range(4):
        lr = [0.0, 4.8, 9.6, 0.3][step]
        optimizer.param_groups[0]['lr'] = lr
        grads = tensors(step + 1)
        for p, g in zip(ours, grads, strict=True):
            p.grad = g.clone()
        optimizer.step()
        naive_step(expected, grads, buffers, lr, 0.9, 1e-2, 0.001)
    for p, e in zip(ours, expected, strict=True):
        torch.testing.assert_close(p.detach(), e, rtol=1e-14, atol=1e-15)


def test_vectors_are_plain_momentum_sgd_without_decay():
    ours, theirs = (nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2))
    pairs = [
        (ours, LARS([ours], lr=0.1, momentum=0.9, weight_decay=0.5)),
        (theirs, torch.optim.SGD([theirs], lr=0.1, momentum=0.9)),
    ]
    for _ in range(3):
        for p, optimizer in pairs:
            p.grad = p.detach() * 2 + 1
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=0)


@pytest.mark.parametrize(('value', 'grad'), [(0.0, 1.0), (1.0, 0.0)])
def test_zero_norms_leave_the_gradient_alone(value, grad):
    p = nn.Parameter(torch.full((2, 2), value))
    p.grad = torch.full((2, 2), grad)
    LARS([p], lr=1.0).step()
    assert torch.equal(p.detach(), torch.full((2, 2), value - grad))


def test_zero_gradient_with_decay_shrinks_by_the_trust_coefficient():
    p = nn.Parameter(torch.randn(3, 3, dtype=torch.float64))
    before = p.detach().clone()
    p.grad = torch.zeros_like(p)
    LARS([p], lr=1.0, weight_decay=1e-6, trust_coefficient=0.001).step()
    torch.testing.assert_close(p.detach(), before * (1 - 0.001), rtol=1e-12, atol=0)


def test_parameters_without_gradient_are_untouched_and_gradients_survive():
    with_grad, without = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    with_grad.grad = torch.ones(2, 2)
    LARS([with_grad, without], lr=1.0, weight_decay=0.1).step()
    assert torch.equal(without.detach(), torch.ones(2, 2))
    assert torch.equal(with_grad.grad, torch.ones(2, 2))


def test_it_never_reads_a_value_back():
    class CountReads(TorchDispatchMode):
        reads = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            CountReads.reads += 'local_scalar_dense' in str(func)
            return func(*args, **(kwargs or {}))

    params = [nn.Parameter(t) for t in tensors(0)]
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer = LARS(params, lr=1.0, weight_decay=1e-6)
    with CountReads():
        optimizer.step()
    assert CountReads.reads == 0


def test_state_round_trip():
    p = nn.Parameter(torch.ones(2, 2))
    p.grad = torch.ones(2, 2)
    optimizer = LARS([p], lr=1.0)
    optimizer.step()
    clone = LARS([p], lr=1.0)
    clone.load_state_dict(optimizer.state_dict())
    assert torch.equal(clone.state[p]['mu'], optimizer.state[p]['mu'])


@pytest.mark.parametrize('bad', [dict(lr=-1), dict(momentum=1.0), dict(weight_decay=-1), dict(trust_coefficient=0)])
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match=f'{next(iter(bad))}={next(iter(bad.values()))}'):
        LARS([nn.Parameter(torch.ones(1))], **(dict(lr=0.1) | bad))
