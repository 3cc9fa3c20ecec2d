"""A dumped step, repeated: the same numbers, and the culprit by name."""

import pytest
import torch
from torch import nn

from mocox.monitors.bad_step import replay_step
from mocox.registry import MODELS
from tests.support.small_models import VIT, config
from tests.support.tiny_run import run_tool
from tests.test_monitors.tiny import PREPROCESSOR, Spoil, events, train


@MODELS.register_module(force=True)
class Breaks(nn.Module):
    """A loss that is not a number once the limit is lowered."""

    def forward(self, logits, labels):
        loss = nn.functional.cross_entropy(logits, labels)
        return loss if logits[0, 0] < self.limit else loss * torch.nan

    limit = 1e9


def dumped(tmp_path, **kwargs):
    train(tmp_path / 'run', **kwargs)
    (path, *_) = sorted((tmp_path / 'run' / 'bad_steps').iterdir())
    return path


QUEUE = dict(
    type='MoCo',
    backbone=VIT,
    neck=dict(type='NonLinearNeck', in_channels=16, hid_channels=12, out_channels=8),
    head=dict(type='ContrastiveHead', temperature=0.2),
    queue_len=40,
    feat_dim=8,
    data_preprocessor=PREPROCESSOR,
)
DROPPING = config(dict(VIT, drop_path_rate=0.5), data_preprocessor=PREPROCESSOR)


@pytest.mark.parametrize('model', [DROPPING, QUEUE], ids=['v3 with stochastic depth', 'queue'])
@pytest.mark.parametrize('accumulation', [1, 2])
def test_the_same_gradient_again(tmp_path, model, accumulation):
    """A spike is finite, so that numbers can be compared: all layers but the spoiled one repeat exactly."""
    path = dumped(
        tmp_path,
        epochs=8,
        model=model,
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01), accumulative_counts=accumulation),
        extra=[Spoil({27}, 1e4)],
        hooks=dict(stability=dict(type='StabilityHook', dump_spikes=True, window=10)),
    )
    replay = replay_step(path)
    assert replay.dump['iteration'] == 27 - (accumulation - 1)
    assert len(replay.losses) == accumulation
    for layer, norm in replay.norms.items():
        recorded = replay.dump['norms'][layer]
        if layer == 'blocks.0':
            assert recorded > 100 * norm
        else:
            assert norm == pytest.approx(recorded, rel=1e-5), layer
    assert replay.first_bad is None
    assert 'all outputs of the forward pass are finite' in str(replay)


def test_finds_the_module_that_breaks(tmp_path, capsys, monkeypatch):
    model = config(VIT, data_preprocessor=PREPROCESSOR)
    model['head']['loss'] = dict(type='Breaks')
    monkeypatch.setattr(Breaks, 'limit', -1e9)
    path = dumped(tmp_path, epochs=1, model=model)
    run_tool('replay_step.py', path)
    out = capsys.readouterr().out
    assert 'iteration 0, epoch 1: the gradient is not finite' in out
    assert 'first output that is not finite: head.loss_module (Breaks)' in out
    assert 'micro-batch 0: loss nan' in out
    assert len(events(tmp_path / 'run', 'non_finite')) == 3  # of four, the first three are told


def test_images_that_are_no_numbers(tmp_path, monkeypatch):
    from mocox.models.data_preprocessor import ViewsPreprocessor

    original = ViewsPreprocessor._prepare_views

    def spoiled(self, data, training):
        views = original(self, data, training)
        views[0][2:4] = torch.nan
        return views

    monkeypatch.setattr(ViewsPreprocessor, '_prepare_views', spoiled)
    replay = replay_step(dumped(tmp_path, epochs=1))
    assert replay.bad_inputs == [2]
    assert replay.first_bad[0].startswith('backbone') or replay.first_bad[0].startswith('momentum_encoder')
    assert '2 images are not finite' in str(replay)


def test_no_more_than_asked_for(tmp_path):
    dumped(tmp_path, extra=[Spoil({2, 5, 9, 12}, float('nan'))])
    assert len(list((tmp_path / 'run' / 'bad_steps').iterdir())) == 2


def test_wrong_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nothing\.pth'):
        replay_step(tmp_path / 'nothing.pth')
    (tmp_path / 'notes.txt').write_text('nothing of the kind')
    with pytest.raises(ValueError, match=r'notes\.txt is not a checkpoint but a text file'):
        replay_step(tmp_path / 'notes.txt')
    torch.save(dict(state_dict={}), tmp_path / 'checkpoint.pth')
    with pytest.raises(ValueError, match='is not a dump of a bad step'):
        replay_step(tmp_path / 'checkpoint.pth')
