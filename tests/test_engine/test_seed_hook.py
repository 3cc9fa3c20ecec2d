"""A resumed run with stochastic depth equals the uninterrupted one."""

import torch

from tests.support.runs import train
from tests.support.small_models import VIT, config

MODEL = config(dict(VIT, drop_path_rate=0.5), base_momentum=0.9)


def test_resume_drops_the_same_paths(tmp_path):
    hooks = dict(epoch_seed=dict(type='EpochSeedHook'), checkpoint=dict(type='CheckpointHook', interval=1))
    straight, _ = train(tmp_path / 'straight', model=MODEL, default_hooks=hooks)
    checkpoint = str(tmp_path / 'straight' / 'epoch_1.pth')
    torch.rand(1)  # another process has another generator
    resumed, _ = train(tmp_path / 'resumed', model=MODEL, default_hooks=hooks, load_from=checkpoint, resume=True)
    for name, value in straight.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
