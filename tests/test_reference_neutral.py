"""Options that mean what holds anyway leave every trace bit-equal."""

import pytest
import torch

from mocox import dist
from mocox.reference import Case, replay, replays
from mocox.reference.configs import METHODS, build_config
from mocox.registry import MODELS
from tests.support.traces import GOLDEN, ONE_PROCESS, replayed


def neutral(case: Case, work_dir: str, *args) -> dict:
    """Three channels, chunks of more than the batch, no compiling, no other layout, given in words; a warm start."""
    config = build_config(case, work_dir, *args)
    config.model.backbone.in_channels = 3
    if 'neck' in config.model:
        config.model.update(chunk_size=1000, compile=False, channels_last=False)
    model = MODELS.build(config.model).double()
    METHODS[case.spec['method']].load(model, case)
    config.load_from = f'{work_dir}/start.pth'
    torch.save(dict(meta={}, state_dict=model.state_dict()), config.load_from)
    return config


class WarmStart(replays.InitialState):
    """Finds in the model already what it loads."""

    def before_train(self, runner) -> None:
        model = dist.unwrap(runner.model)
        found = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        super().before_train(runner)
        assert all(torch.equal(tensor, found[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize('name', ONE_PROCESS)
def test_neutral_options_leave_the_trace_bit_equal(monkeypatch, name):
    _, plain = replayed(name)
    monkeypatch.setattr(replays, 'build_config', neutral)
    monkeypatch.setattr(replays, 'InitialState', WarmStart)
    result = replay(Case.read(GOLDEN / name))
    assert result.losses == plain.losses and result.grad_norms == plain.grad_norms and len(plain.losses) > 5
    assert result.state.keys() == plain.state.keys()
    assert all(torch.equal(tensor, plain.state[key]) for key, tensor in result.state.items())
