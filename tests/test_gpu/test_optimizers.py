"""Optimizers on the device against plain ones on the CPU, with a step that is left out."""

import copy

import pytest
import torch
from torch import Tensor, nn

from mocox.engine.lars import LARS
from mocox.engine.optim_wrapper import AmpOptimWrapper, fill_momentum_buffers

STEPS = 4
OPTIMIZERS = {
    'AdamW': lambda p, fused: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, fused=fused),
    'SGD': lambda p, fused: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3, fused=fused),
    'LARS': lambda p, fused: LARS(p, lr=0.5, weight_decay=1e-3, momentum=0.9),
}
ALL = pytest.mark.parametrize('kind', OPTIMIZERS)


def gradients(step: int, module: nn.Module, device: str, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [
        torch.randn(p.shape, dtype=torch.float64, generator=generator).to(device, dtype) for p in module.parameters()
    ]


def run(kind: str, device: str, dtype: torch.dtype, fused: bool, left_out: int | None = None) -> nn.Module:
    """Some steps; at ``left_out`` the gradient overflows, which a flag says and the CPU's plain one leaves out."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3)).to(device, dtype)
    optimizer = OPTIMIZERS[kind](module.parameters(), fused)
    if fused:
        fill_momentum_buffers(optimizer)
    for step in range(STEPS):
        for parameter, grad in zip(module.parameters(), gradients(step, module, device, dtype), strict=True):
            parameter.grad = grad * float('inf') if step == left_out and fused else grad
        if step == left_out and not fused:
            continue
        optimizer.found_inf = torch.tensor(float(step == left_out), device=device) if fused else None
        optimizer.step()
    return module


@ALL
@pytest.mark.parametrize('left_out', [None, 0, 2])
def test_like_a_plain_one_on_the_cpu(kind, left_out, device):
    expected = run(kind, 'cpu', torch.float64, fused=False, left_out=left_out)
    actual = run(kind, device, torch.float32, fused=True, left_out=left_out)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(actual.state_dict()[name].cpu().double(), value, rtol=1e-4, atol=1e-5, msg=name)


@ALL
def test_continued_from_its_state(kind, device):
    """The state of one moves to another with its type, its device and its flag of the fused kernel."""
    torch.manual_seed(0)
    module = nn.Linear(5, 3).to(device)
    optimizer = OPTIMIZERS[kind](module.parameters(), True)
    other = copy.deepcopy(module)
    continued = OPTIMIZERS[kind](other.parameters(), True)
    for step in range(STEPS):
        for parameter, grad in zip(module.parameters(), gradients(step, module, device, torch.float32), strict=True):
            parameter.grad = grad
        optimizer.step()
        if step == 1:
            other.load_state_dict(module.state_dict())
            continued.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        if step > 1:
            for parameter, grad in zip(other.parameters(), gradients(step, other, device, torch.float32), strict=True):
                parameter.grad = grad
            continued.step()
    assert all(map(torch.equal, module.parameters(), other.parameters()))


@pytest.mark.parametrize('clip', [None, dict(max_norm=0.1)])
def test_mixed_precision_with_the_scaler_that_it_needs(clip, device):
    """float16 on a GPU, whose scaler cancels out; bfloat16, without one, on the CPU."""
    torch.manual_seed(0)
    module = nn.Linear(4, 1).to(device)
    expected = copy.deepcopy(module).cpu().double()
    dtype = 'float16' if device == 'cuda' else 'bfloat16'
    wrapper = AmpOptimWrapper(dtype=dtype, optimizer=torch.optim.SGD(module.parameters(), lr=0.1), clip_grad=clip)
    x = torch.randn(8, 4)
    with wrapper.optim_context(module):
        loss = module(x.to(device)).float().square().mean()
    wrapper.update_params(loss)
    expected(x.double()).square().mean().backward()
    if clip:
        nn.utils.clip_grad_norm_(expected.parameters(), **clip)
    for actual, parameter in zip(module.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(actual.detach().cpu().double(), (parameter - 0.1 * parameter.grad).detach(),
                                   rtol=0.02, atol=0.01)  # fmt: skip
