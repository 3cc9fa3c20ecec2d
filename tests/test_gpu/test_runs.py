"""Whole runs with every hook, a resume, a bad step that is repeated, the doctor, and process groups of one process."""

from collections.abc import Iterator
from math import isfinite

import pytest
import torch
import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import DefaultScope
from torch import nn

from mocox.doctor.speed import measure
from mocox.engine import AmpOptimWrapper
from mocox.models.fully_shard import FullyShard
from mocox.monitors.bad_step import replay_step
from mocox.recipe import Recipe
from mocox.registry import DATASETS, MODELS
from mocox.run.build import build_runner
from tests.support.processes import forget_runner
from tests.support.small_models import MODELS_BY_NAME
from tests.test_monitors.tiny import Spoil, events, run_config, scalars, train

STEPS_PER_EPOCH = 4


def test_a_run_with_its_monitor_and_a_bad_step_that_is_repeated(device, tmp_path):
    runner = train(tmp_path / 'run', epochs=2, extra=[Spoil({5}, float('nan'))])
    assert next(runner.model.parameters()).device.type == device
    assert [event['kind'] for event in events(tmp_path / 'run')].count('non_finite') == 1
    assert all(isfinite(p.sum()) for p in runner.model.parameters())
    assert {'contrastive_top1', 'effective_rank', 'grad_norm'} <= {
        key for line in scalars(tmp_path / 'run') for key in line
    }
    (dump,) = (tmp_path / 'run' / 'bad_steps').glob('*.pth')
    replay = replay_step(dump, device)
    spoilt = [layer for layer, norm in replay.dump['norms'].items() if not isfinite(norm)]
    assert spoilt == ['blocks.0']
    assert all(isfinite(norm) for norm in replay.norms.values())  # the spoiling was not in the batch


@pytest.fixture
def undetermined() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False


def test_a_resume_is_bit_equal_in_deterministic_mode(device, tmp_path, undetermined):
    def run(name: str, **options) -> dict[str, torch.Tensor]:
        config = run_config(tmp_path / name, epochs=2, randomness=dict(seed=0, deterministic=True), **options)
        config['default_hooks']['checkpoint'] = dict(type='CheckpointHook', interval=1)
        runner = build_runner(Config(config | dict(launcher='none')))
        runner.train()
        forget_runner()
        return {name: value.cpu() for name, value in runner.model.state_dict().items()}

    expected = run('straight')
    resumed = run('resumed', resume=True, load_from=str(tmp_path / 'straight' / 'epoch_1.pth'))
    assert [name for name, value in expected.items() if not torch.equal(value, resumed[name])] == []


@pytest.fixture
def group(device, tmp_path) -> Iterator[None]:
    """NCCL or gloo."""
    backend = 'nccl' if device == 'cuda' else 'gloo'
    torch_dist.init_process_group(backend, init_method=(tmp_path / 'meeting').as_uri(), rank=0, world_size=1)
    yield
    torch_dist.destroy_process_group()


def losses(wrapper: nn.Module, model: nn.Module, device: str) -> list[float]:
    optimizer = AmpOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=0.01))
    views = list(torch.randn(2, 8, 3, 8, 8, generator=torch.Generator().manual_seed(0)).to(device))
    found = []
    for _ in range(2):
        model.update_momentum_encoder()
        found.append(wrapper.train_step(dict(inputs=views), optimizer)['loss'].item())
    return found


@pytest.mark.parametrize('wrap', [lambda model: MMDistributedDataParallel(model, broadcast_buffers=False), FullyShard],
                         ids=['DDP', 'FullyShard'])  # fmt: skip
def test_a_group_of_one_process(wrap, group, device):
    """It trains as a model without one, in bfloat16."""
    found = []
    for wrapping in (None, wrap):
        torch.manual_seed(0)
        model = MODELS.build(MODELS_BY_NAME['v3'][1]).to(device)
        model.init_weights()
        wrapper = wrapping(model) if wrapping else model
        found.append(losses(wrapper, model, device))
    assert found[1] == pytest.approx(found[0], abs=1e-3)


def test_the_doctor_times_a_step(device, tmp_path):
    config = Config(run_config(tmp_path / 'run'))
    with DefaultScope.overwrite_default_scope('mocox'):
        dataset = DATASETS.build(config.train_dataloader.dataset)
    speed = measure(Recipe(config, 1, len(dataset)), dataset, seconds=0.1)
    assert (speed.device == 'CPU') == (device == 'cpu')
    assert speed.step > 0 and speed.memory_mb > 0
