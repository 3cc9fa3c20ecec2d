"""The learning-rate schedule against the papers' formulas, as MMEngine builds and steps it."""

import json
from math import cos, pi
from pathlib import Path

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mocox.engine import WarmupCosineLR
from mocox.registry import PARAM_SCHEDULERS

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'


def sequence(steps: int, epoch_length: int = 1, accumulation: int = 1, base: float = 2.4e-3, **cfg) -> list[float]:
    """Learning rate in each of ``steps`` updates of the schedule."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=base)
    wrapper = OptimWrapper(optimizer, accumulative_counts=accumulation)
    cfg = dict(type='mocox.WarmupCosineLR', **cfg)
    scheduler = PARAM_SCHEDULERS.build(cfg, default_args=dict(optimizer=wrapper, epoch_length=epoch_length))
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    return values


def test_per_iteration_with_warm_up():
    epochs, warmup, length = 10, 4, 7
    ours = sequence(epochs * length, length, warmup_epochs=warmup, end=epochs, convert_to_iter_based=True)
    for i, value in enumerate(ours):
        e = i / length
        scale = e / warmup if e < warmup else (1 + cos(pi * (e - warmup) / (epochs - warmup))) / 2
        assert value == pytest.approx(2.4e-3 * scale, rel=1e-12, abs=1e-18)
    assert ours[0] == 0.0
    assert ours[warmup * length] == 2.4e-3  # the peak, once
    assert ours[warmup * length + 1] < 2.4e-3


def test_per_epoch_without_warm_up():
    ours = sequence(90, base=30.0, end=90)
    assert ours == pytest.approx([30.0 * (1 + cos(pi * e / 90)) / 2 for e in range(90)], rel=1e-14)


def test_micro_batches_share_the_value_of_their_step():
    straight = sequence(12, 3, warmup_epochs=1, end=4, convert_to_iter_based=True)
    accumulated = sequence(24, 6, accumulation=2, warmup_epochs=1, end=4, convert_to_iter_based=True)
    assert accumulated[0::2] == pytest.approx(straight, rel=1e-14)
    assert accumulated[0::2] == accumulated[1::2]


def test_warm_up_longer_than_the_run():
    assert sequence(2, base=1.0, warmup_epochs=40, end=2) == [0.0, 1 / 40]


def test_end_value():
    assert sequence(3, base=1.0, end=2, eta_min=0.1)[2] == pytest.approx(0.55)  # past the end it stays


def test_position_is_saved_and_the_shape_follows_the_config():
    wrapper = OptimWrapper(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0))
    first, longer = (PARAM_SCHEDULERS.build(dict(type='mocox.WarmupCosineLR', optimizer=wrapper, end=end))
                     for end in (4, 8))  # fmt: skip
    wrapper.optimizer.step()
    first.step()
    longer.load_state_dict(first.state_dict())
    wrapper.optimizer.step()
    longer.step()
    assert wrapper.param_groups[0]['lr'] == pytest.approx((1 + cos(pi * 2 / 8)) / 2, rel=1e-14)


def test_a_group_may_keep_its_learning_rate():
    """As the predictors of SimSiam and Fast-MoCo do."""
    settings = {}, dict(fix_lr=True), dict(fix_lr=False)
    groups = [dict(params=[nn.Parameter(torch.ones(1))], **kwargs) for kwargs in settings]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    scheduler = WarmupCosineLR(optimizer, warmup_epochs=1, warmup_start_ratio=0.25, end=3)
    values = []
    for _ in range(3):
        values.append([group['lr'] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    assert [value for _, value, _ in values] == [0.1] * 3
    assert [(first, last) for first, _, last in values] == [(lr, lr) for lr in (0.025, 0.1, pytest.approx(0.05))]


def test_a_delay_repeats_the_first_value():
    """In the recorded fine-tuning of DeiT epoch e has the rate of e - 1."""
    spec = json.loads((GOLDEN / 'finetune' / 'case.json').read_text())
    recorded, epochs = spec['schedule']['lr'], spec['train']['epochs']
    shape = dict(warmup_epochs=2, warmup_start_ratio=1e-6 / 0.02, warmup_prefix=False, eta_min=1e-5, delay_epochs=1)
    assert sequence(epochs, base=0.02, end=epochs, **shape) == pytest.approx(recorded, rel=1e-12)
    by_iteration = sequence(3 * epochs, 3, base=0.02, end=epochs, convert_to_iter_based=True, **shape)
    assert by_iteration[::3] == pytest.approx(recorded, rel=1e-12)
    assert by_iteration[:4] == [pytest.approx(1e-6)] * 4  # of three iterations each, epoch 0 and the start of epoch 1


def test_no_batch_is_an_error_that_names_the_batch_size():
    with pytest.raises(ValueError, match=r'fewer images than train_dataloader\.batch_size'):
        sequence(1, epoch_length=0, warmup_epochs=1, end=2, convert_to_iter_based=True)


@pytest.mark.parametrize('name', ['warmup_epochs', 'delay_epochs'])
@pytest.mark.parametrize('by_iteration', [True, False])
def test_a_negative_duration_is_refused(name, by_iteration):
    with pytest.raises(ValueError, match=f'{name} must not be negative, got -1$'):
        sequence(1, 3, end=4, convert_to_iter_based=by_iteration, **{name: -1})


@pytest.mark.parametrize('accumulation', [1, 2])
@pytest.mark.parametrize('done', [1, 4, 7, 12])
@pytest.mark.parametrize('begin', [0, 2])
def test_an_extended_run_has_the_schedule_of_one_that_had_this_length_from_the_start(done, begin, accumulation):
    """Whether it goes on from its end (12) or from the middle: from the first step on, not from the second."""

    def started(end: int) -> tuple[OptimWrapper, WarmupCosineLR]:
        wrapper = OptimWrapper(torch.optim.SGD([nn.Parameter(torch.ones(1))], 1.0), accumulative_counts=accumulation)
        return wrapper, WarmupCosineLR(wrapper, warmup_epochs=3, begin=begin, end=end, by_epoch=False)

    def run(wrapper: OptimWrapper, scheduler: WarmupCosineLR, steps: int) -> list[float]:
        values = []
        for _ in range(steps):
            values.append(wrapper.param_groups[0]['lr'])
            wrapper.optimizer.step()
            scheduler.step()
        return values

    short, extended = started(end=12), started(end=20)
    run(*short, done)
    extended[0].load_state_dict(short[0].state_dict())
    extended[1].load_state_dict(short[1].state_dict())
    assert run(*extended, 20 - done) == run(*started(end=20), 20)[done:]
