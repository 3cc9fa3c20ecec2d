"""Heads first: the backbone waits, bit for bit, and goes on with the learning rate of its depth."""

import copy

import pytest
import torch
from mmengine.hooks import Hook

from mocox.engine import FreezeBackboneHook
from tests.test_monitors.tiny import model, train


class Weights(Hook):
    """The query encoder's and the key encoder's weights at the start and after every epoch."""

    def before_train(self, runner):
        self.found = [copy.deepcopy(runner.model.state_dict())]

    def after_train_epoch(self, runner):
        self.found.append(copy.deepcopy(runner.model.state_dict()))


def changed(before: dict, after: dict) -> set[str]:
    return {key.split('.')[0] for key in before if not torch.equal(before[key], after[key])}


@pytest.mark.parametrize('epochs', [0, 2])
def test_the_backbone_waits_for_its_heads(tmp_path, epochs):
    weights = Weights()
    hooks = [weights, dict(type='FreezeBackboneHook', epochs=epochs)]
    train(tmp_path / 'run', epochs=3, model=model(), extra=hooks)
    moved = [changed(*pair) for pair in zip(weights.found, weights.found[1:])]
    assert [('backbone' in parts) for parts in moved] == [epoch >= epochs for epoch in range(3)]
    assert all({'neck', 'head'} <= parts for parts in moved)
    keys = {key.removeprefix('momentum_encoder.'): t for key, t in weights.found[epochs].items()}
    assert all(torch.equal(keys[k], t) for k, t in weights.found[0].items() if k.startswith('backbone.'))


def test_never_trained_is_said(tmp_path):
    train(
        tmp_path / 'run',
        epochs=1,
        model=model(),
        extra=[dict(type='FreezeBackboneHook', epochs=1)],
        log_level='WARNING',
    )
    (log,) = (tmp_path / 'run').rglob('*.log')
    assert 'epochs=1 of 1: the backbone will not be trained' in log.read_text()


def test_a_negative_duration():
    with pytest.raises(ValueError, match='epochs=-1 must be at least 0'):
        FreezeBackboneHook(-1)
