import copy

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mocox.engine.optim_wrapper import AmpOptimWrapper
from mocox.registry import OPTIM_WRAPPERS


class Counted(nn.Linear):
    """Remembers the type its product was computed in."""

    def forward(self, x):
        y = super().forward(x)
        self.computed_in = y.dtype
        return y


def train(wrapper_type, **kwargs) -> Counted:
    torch.manual_seed(0)
    model = Counted(4, 1)
    wrapper = wrapper_type(optimizer=torch.optim.SGD(model.parameters(), lr=0.1), **kwargs)
    wrapper.initialize_count_status(model, 0, 4)
    for x in torch.linspace(-1, 1, 32).view(4, 2, 4):
        with wrapper.optim_context(model):
            loss = model(x).float().square().mean()
        wrapper.update_params(loss)
    return model


def test_bfloat16_on_the_cpu():
    amp, full = train(AmpOptimWrapper), train(OptimWrapper)
    assert (amp.computed_in, full.computed_in) == (torch.bfloat16, torch.float32)
    assert amp.weight.dtype == torch.float32
    torch.testing.assert_close(amp.weight, full.weight, rtol=0, atol=0.01)


@pytest.mark.parametrize('kwargs', [dict(accumulative_counts=2), dict(clip_grad=dict(max_norm=0.01))])
def test_accumulation_and_clipping_are_the_parents(kwargs):
    plain = train(AmpOptimWrapper)
    amp, full = train(AmpOptimWrapper, **kwargs), train(OptimWrapper, **kwargs)
    assert not torch.allclose(amp.weight, plain.weight, atol=1e-3)
    torch.testing.assert_close(amp.weight, full.weight, rtol=0, atol=0.01)


def test_state_has_no_scaler_and_loads_one_that_has():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.5)
    wrapper = AmpOptimWrapper(optimizer=optimizer)
    state = wrapper.state_dict()
    assert 'loss_scaler' not in state
    optimizer.param_groups[0]['lr'] = 0.1
    saved_with_scaler = {**state, 'loss_scaler': dict(scale=1024.0)}
    wrapper.load_state_dict(saved_with_scaler)
    assert wrapper.get_lr()['lr'] == [0.5]
    assert 'loss_scaler' in saved_with_scaler  # the caller's dict is left alone


@pytest.mark.skipif(torch.cuda.is_available(), reason='float16 works on GPUs')
def test_float16_is_refused_on_the_cpu():
    with pytest.raises(ValueError, match="'float16' needs a GPU: use 'bfloat16'"):
        OPTIM_WRAPPERS.build(dict(type='AmpOptimWrapper', dtype='float16', optimizer=None))


def test_other_types_are_refused():
    with pytest.raises(ValueError, match="'int8'.*'bfloat16' or 'float16'"):
        AmpOptimWrapper(dtype='int8', optimizer=None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_float16_on_a_gpu_skips_a_step_that_overflows():
    model = Counted(4, 1).cuda()
    wrapper = AmpOptimWrapper(dtype='float16', optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    wrapper.initialize_count_status(model, 0, 2)
    before, scale = model.weight.clone(), wrapper.loss_scaler.get_scale()
    with wrapper.optim_context(model):
        loss = model(torch.full((2, 4), 60000.0, device='cuda')).float().square().mean()
    wrapper.update_params(loss)
    assert model.computed_in == torch.float16
    assert torch.equal(model.weight, before)
    assert wrapper.loss_scaler.get_scale() == scale / 2
    assert wrapper.state_dict()['loss_scaler']['scale'] == scale / 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_fused_adamw_takes_the_scale_itself():
    model = Counted(4, 1).cuda()
    wrapper = AmpOptimWrapper(dtype='float16', optimizer=torch.optim.AdamW(model.parameters(), lr=0.1, fused=True))
    wrapper.initialize_count_status(model, 0, 2)
    before = model.weight.clone()
    for x in (60000.0, 1.0):  # overflows, fits
        assert torch.equal(model.weight, before)
        with wrapper.optim_context(model):
            loss = model(torch.full((2, 4), x, device='cuda')).float().square().mean()
        wrapper.update_params(loss)
    assert not torch.equal(model.weight, before)


@pytest.mark.parametrize('wrapper', [OptimWrapper, AmpOptimWrapper])
def test_fused_adamw_survives_its_state_dict(wrapper):
    def build(fused: bool | None):
        torch.manual_seed(0)
        model = Counted(4, 1)
        return model, wrapper(optimizer=torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused))

    def step(model, optim):
        with optim.optim_context(model):
            loss = model(torch.ones(2, 4)).float().square().mean()
        optim.update_params(loss)

    model, optim = build(True)
    step(model, optim)
    again, resumed = build(True)
    again.load_state_dict(model.state_dict())
    resumed.load_state_dict(copy.deepcopy(optim.state_dict()))
    assert resumed.param_groups[0]['fused'] is True
    step(model, optim), step(again, resumed)
    assert torch.equal(model.weight, again.weight)
    loop, plain = build(None)
    step(loop, plain), step(loop, plain)
    torch.testing.assert_close(model.weight, loop.weight, rtol=1e-5, atol=1e-6)
