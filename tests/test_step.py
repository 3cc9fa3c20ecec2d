"""What a whole training step costs beside its arithmetic: values read back to the host, collectives."""

from collections import Counter
from unittest import mock

import pytest
import torch
import torch.distributed as torch_dist
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils._python_dispatch import TorchDispatchMode

import mocox.engine  # noqa: F401
from mocox.registry import MODELS
from mocox.run.build import build_runner
from tests.support.processes import run_processes
from tests.support.runs import Images
from tests.support.small_models import VIT, build, config, moco_config, resnet_model, views
from tests.support.tiny_run import write_run

READS = {'aten._local_scalar_dense.default', 'aten.nonzero.default', 'aten.is_nonzero.default', 'aten.item.default'}


class CountReads(TorchDispatchMode):
    """Counts operations whose result the host has to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.reads, self.paused = [], False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        mask = str(func).startswith('aten.index.') and any(i is not None and i.dtype == torch.bool for i in args[1])
        if (str(func) in READS or mask) and not self.paused:
            self.reads.append(str(func))
        return func(*args, **kwargs or {})


class Start(Hook):
    priority = 'VERY_HIGH'

    def __init__(self, counts: list) -> None:
        self.counts = counts

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.counts.append(CountReads())
        self.counts[-1].__enter__()


class Stop(Start):
    priority = 'LOWEST'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        pass

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.counts[-1].__exit__(None, None, None)


def count(runner: Runner) -> list[list[str]]:
    counts = []
    runner.register_hook(Start(counts))
    runner.register_hook(Stop(counts), priority='LOWEST')
    # Augmentation on the CPU draws and reads its parameters there; on a GPU it draws them on the CPU as well.
    augment = runner.model.data_preprocessor
    augment.register_forward_pre_hook(lambda *_: setattr(counts[-1], 'paused', True))
    augment.register_forward_hook(lambda *_: setattr(counts[-1], 'paused', False))
    runner.train()
    return [c.reads for c in counts]


def test_the_counter_counts():
    with CountReads() as counter:
        x = torch.ones(2)
        x.sum().item(), bool(x[0]), x[x > 0], x.nonzero()
    assert len(counter.reads) == 4


def test_a_step_of_the_shipped_recipe_reads_the_loss_and_nothing_else(tmp_path):
    cfg = Config.fromfile(write_run(tmp_path))
    cfg.work_dir, cfg.launcher, cfg.log_level = str(tmp_path / 'run'), 'none', 'ERROR'
    cfg.default_hooks.monitor.plain = False  # a pass over images of its own, every twentieth of a run
    reads = count(build_runner(cfg))
    assert len(reads) == 12
    assert all(step == ['aten._local_scalar_dense.default'] for step in reads), reads


@pytest.mark.filterwarnings('ignore:Shuffling BatchNorm')
@pytest.mark.parametrize(
    ('model', 'optimizer'),
    [
        (moco_config(), dict(type='SGD', lr=0.1, momentum=0.9)),
        (moco_config('mocox.SplitBN', symmetric=True, chunk_size=2), dict(type='SGD', lr=0.1, momentum=0.9)),
        (config(dict(VIT, drop_path_rate=0.1), chunk_size=2), dict(type='LARS', lr=0.1)),
    ],
    ids=['queue', 'chunks of BatchNorm', 'LARS'],
)
def test_at_most_one_read(tmp_path, model, optimizer):
    runner = Runner(
        model=model,
        work_dir=str(tmp_path),
        train_dataloader=dict(
            dataset=Images(), batch_size=4, sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=optimizer),
        custom_hooks=[dict(type='MomentumUpdateHook')],
        default_scope='mocox', log_level='ERROR', experiment_name=tmp_path.name,
    )  # fmt: skip
    reads = count(runner)
    assert len(reads) == 4 and all(step == ['aten._local_scalar_dense.default'] for step in reads), reads


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('chunk_size', [None, 2])
def test_no_synchronisation_inside_a_step_on_a_gpu(chunk_size):
    from mmengine.optim import OptimWrapper

    model = build(chunk_size=chunk_size).float().cuda()
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), fused=True))
    x = [v.float().cuda() for v in views()]
    for _ in range(3):
        model.train_step(dict(inputs=x), wrapper)
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=torch.profiler.supported_activities()) as profile:
        torch.cuda.set_sync_debug_mode('error')
        try:
            model.update_momentum_encoder()
            model.train_step(dict(inputs=x), wrapper)
        finally:
            torch.cuda.set_sync_debug_mode('default')
    names = Counter(event.name for event in profile.events())
    assert not names['cudaStreamSynchronize'] + names['aten::_local_scalar_dense'] + names['aten::nonzero'], names


def _collectives(model_type: str, norm: str = 'BN1d', **kwargs) -> Counter:
    from mmengine.optim import OptimWrapper

    rank, calls = torch_dist.get_rank(), Counter()
    if model_type == 'v3':
        cfg = config(**kwargs)
        cfg['neck']['norm_cfg'] = cfg['head']['predictor']['norm_cfg'] = dict(type=norm)
        model, size = MODELS.build(cfg).double(), 8
    else:
        model, size = resnet_model(**kwargs), 32
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 0.1))
    x = [v[rank * 2 : rank * 2 + 2] for v in views(size)]

    def counting(name, function):
        def call(*args, **kwargs):
            tensor = args[1] if name == 'all_gather_into_tensor' else args[0]
            calls[name] += 1
            calls[f'{name} bytes'] += tensor.nbytes
            return function(*args, **kwargs)

        return call

    patches = {
        name: counting(name, f) for name, f in vars(torch_dist).items() if name.startswith(('all_', 'broadcast'))
    }
    with mock.patch.multiple(torch_dist, **patches):
        model.train_step(dict(inputs=x), wrapper)
    return calls


@pytest.mark.dist
def test_collectives_of_a_step():
    loss = {'all_reduce': 1, 'all_reduce bytes': 8}
    # 2 images, 2 views, keys of 8 numbers of 8 bytes
    keys = {'all_gather_into_tensor': 1, 'all_gather_into_tensor bytes': 2 * 2 * 8 * 8}
    assert run_processes(_collectives, 2, 'v3') == [loss | keys] * 2
    # Two layers of SyncBN in projector and predictor; queries and keys of two views pass the projector, queries the
    # predictor. Each layer gathers its statistics forward, and reduces two sums backward; keys have no backward pass.
    (synchronised, _) = run_processes(_collectives, 2, 'v3', 'mocox.SyncBN')
    assert synchronised['all_reduce'] == 1 + (2 * 2 + 2 * 2)
    assert synchronised['all_gather_into_tensor'] == 1 + (2 * 4 + 2 * 2)
    one_view = {'all_gather_into_tensor': 1, 'all_gather_into_tensor bytes': 2 * 8 * 8}
    images = {'all_to_all_single': 1, 'all_to_all_single bytes': 2 * 3 * 32 * 32 * 8}
    assert run_processes(_collectives, 2, 'queue') == [loss | one_view | images] * 2


@pytest.mark.filterwarnings('ignore:Shuffling BatchNorm')
@pytest.mark.parametrize('algorithm', ['MoCoV3', 'MoCo', 'FastMoCo', 'MoBY'])
def test_keys_travel_while_queries_are_computed(monkeypatch, algorithm):
    events = []

    def start_gathering(x: torch.Tensor):
        events.append('keys leave')
        return lambda: events.append('keys are there') or x.detach()

    monkeypatch.setattr('mocox.dist.start_gathering', start_gathering)
    cfg = moco_config() if algorithm == 'MoCo' else config()
    if algorithm == 'MoBY':
        cfg.update(queue_len=16, feat_dim=8)
    model = MODELS.build(cfg | dict(type=algorithm)).double()
    model.backbone.register_forward_pre_hook(lambda *_: events.append('queries'))
    model.momentum_encoder.backbone.register_forward_pre_hook(lambda *_: events.append('keys'))
    model(views(32 if algorithm == 'MoCo' else 8), mode='loss')
    order = [event for i, event in enumerate(events) if event != events[i - 1]]
    assert order == ['keys', 'keys leave', 'queries', 'keys are there']
