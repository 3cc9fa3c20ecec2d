"""The momentum hook in real runs."""

from math import cos, pi

import pytest
import torch
from torch import nn

import mocox.engine  # noqa: F401
from mocox.engine.momentum_hook import MomentumUpdateHook
from tests.support.runs import train


def cosine(step: int, total: int, base: float = 0.9) -> float:
    return 1 - (1 - base) * (1 + cos(pi * step / total)) / 2


def test_cosine_and_average_in_a_run(tmp_path):
    _, record = train(tmp_path)
    assert record.momentum == pytest.approx([cosine(i, 8) for i in range(8)], rel=1e-14)
    for i in range(1, 8):
        expected = record.momentum[i] * record.keys[i - 1] + (1 - record.momentum[i]) * record.queries[i]
        torch.testing.assert_close(record.keys[i], expected, rtol=1e-5, atol=1e-7)
    assert not torch.equal(record.queries[0], record.queries[-1])


def test_once_per_optimizer_step_under_accumulation(tmp_path):
    _, record = train(tmp_path, accumulation=2)
    assert record.momentum == pytest.approx([cosine(i - i % 2, 8) for i in range(8)], rel=1e-14)
    for i in range(1, 8, 2):
        assert torch.equal(record.keys[i], record.keys[i - 1])


@pytest.mark.parametrize('accumulation', [1, 2])
def test_accumulation_is_said_to_be_no_large_batch(tmp_path, capfd, accumulation):
    train(tmp_path, accumulation=accumulation, log_level='WARNING')
    log = capfd.readouterr().err + ''.join(path.read_text() for path in tmp_path.glob('*/*.log'))
    assert ('accumulative_counts=2' in log and 'model.chunk_size' in log) == (accumulation == 2)


def test_accumulation_with_a_static_graph_is_refused(tmp_path):
    runner, _ = train(tmp_path, accumulation=2)
    runner.model.static_graph = True
    with pytest.raises(ValueError, match='static_graph=True does not work with accumulative_counts=2'):
        MomentumUpdateHook().before_train(runner)


def test_constant(tmp_path):
    _, record = train(tmp_path, hook=dict(type='MomentumUpdateHook', schedule='constant'))
    assert record.momentum == [0.9] * 8


def test_resume_continues_the_schedule(tmp_path):
    _, straight = train(tmp_path / 'straight', epochs=2)
    train(tmp_path / 'stopped', epochs=2, default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)))
    _, resumed = train(tmp_path / 'resumed', load_from=str(tmp_path / 'stopped' / 'epoch_1.pth'), resume=True)
    assert resumed.momentum == straight.momentum[4:]
    assert torch.equal(resumed.keys[-1], straight.keys[-1])


def test_load_from_starts_the_schedule_anew_and_keeps_the_loaded_keys(tmp_path):
    first, _ = train(tmp_path / 'first', default_hooks=dict(checkpoint=dict(type='CheckpointHook')))
    keys = first.model.momentum_encoder.backbone.blocks[0].mlp.fc1.weight
    _, record = train(tmp_path / 'second', load_from=str(tmp_path / 'first' / 'epoch_2.pth'))
    assert record.momentum[0] == 0.9
    expected = 0.9 * keys + 0.1 * record.queries[0]
    torch.testing.assert_close(record.keys[0], expected, rtol=1e-5, atol=1e-7)


def test_a_checkpoint_without_keys_starts_them_as_a_copy(tmp_path):
    model = train(tmp_path / 'first')[0].model
    state = {k: v for k, v in model.state_dict().items() if not k.startswith('momentum_encoder.')}
    torch.save(dict(state_dict=state), tmp_path / 'backbone.pth')
    _, record = train(tmp_path / 'second', load_from=str(tmp_path / 'backbone.pth'))
    torch.testing.assert_close(record.keys[0], model.backbone.blocks[0].mlp.fc1.weight.detach())


def test_half_a_checkpoint_is_refused(tmp_path):
    model = train(tmp_path / 'first')[0].model
    state = model.state_dict()
    del state['backbone.blocks.1.mlp.fc2.bias']
    state['backbone.cls_token'] = state['backbone.cls_token'][..., :8]
    torch.save(dict(state_dict=state), tmp_path / 'half.pth')
    with pytest.raises(ValueError, match="28 of the backbone's 30 tensors .* backbone.cls_token, .*fc2.bias"):
        train(tmp_path / 'second', load_from=str(tmp_path / 'half.pth'))


@pytest.mark.parametrize('bad', [dict(schedule='linear'), dict(end_momentum=1.5)])
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        MomentumUpdateHook(**bad)


def test_a_model_without_momentum_encoder_is_refused():
    runner = type('R', (), dict(model=nn.Linear(1, 1)))()
    with pytest.raises(TypeError, match='got Linear'):
        MomentumUpdateHook().before_run(runner)
