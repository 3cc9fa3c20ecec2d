"""Every reaction in real runs whose gradients are spoiled between backward pass and update."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from mocox import dist
from mocox.dtensor import own_parts
from mocox.engine import CheckpointHook
from mocox.engine.lars import LARS
from mocox.engine.optim_wrapper import fill_momentum_buffers
from mocox.monitors.bad_step import replay_step
from mocox.monitors.gradients import LayerNorms
from mocox.monitors.stability_hook import StabilityHook, takes_flag
from tests.support.processes import run_processes
from tests.support.small_models import VIT, config
from tests.test_monitors.tiny import (
    PREPROCESSOR,
    Spoil,
    SpoilImages,
    events,
    scalars,
    train,
)

NAN = float('nan')


class Record(Hook):
    """State of the model after each iteration."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.states, self.losses = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.states.append({name: value.clone() for name, value in runner.model.state_dict().items()})
        self.losses.append(float(outputs['loss']))


def stability(**settings) -> dict:
    return dict(stability=dict(type='StabilityHook', interval=2, **settings))


def queries(state: dict) -> dict:
    kept = {name: value for name, value in state.items() if not name.startswith(('momentum', 'queue'))}
    return {name: value for name, value in kept.items() if 'num_batches' not in name}  # a count, not a statistic


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_weights_are_equal_to_the_bit_with_and_without(tmp_path):
    on = train(tmp_path / 'on', hooks=stability(on_spike='clip', on_non_finite='rollback'))
    none = dict(stability=None, monitor=None)
    off = train(tmp_path / 'off', hooks=none)
    assert same(on.model.state_dict(), off.model.state_dict())
    assert not any(isinstance(hook, StabilityHook) for hook in off.hooks)
    assert any(isinstance(hook, StabilityHook) for hook in on.hooks)


@pytest.mark.parametrize('spoil', [Spoil({5, 6}, NAN), Spoil({5, 6}, float('inf')), SpoilImages({5, 6})])
def test_a_gradient_that_is_not_finite_changes_nothing(tmp_path, spoil):
    record = Record()
    runner = train(tmp_path / 'run', extra=[spoil, record])
    assert all(value.isfinite().all() for value in runner.model.state_dict().values())
    assert same(queries(record.states[6]), queries(record.states[4]))  # BatchNorm statistics included
    assert not same(queries(record.states[7]), queries(record.states[6]))
    hook = next(hook for hook in runner.hooks if isinstance(hook, StabilityHook))
    assert hook.skipped == 2
    assert [event['iter'] for event in events(tmp_path / 'run', 'non_finite')] == [6, 7]
    assert scalars(tmp_path / 'run')[-1]['skipped_steps'] == 2


def test_the_optimizer_does_not_notice(tmp_path):
    """Not its moments, not its count of steps, and no weight decay."""
    runner = train(tmp_path / 'run', epochs=1, extra=[Spoil({1, 2, 3}, NAN)])
    steps = {float(state['step']) for state in runner.optim_wrapper.optimizer.state.values()}
    assert steps == {1.0}


def test_warn_lets_it_pass(tmp_path):
    runner = train(tmp_path / 'run', epochs=1, hooks=stability(on_non_finite='warn'), extra=[Spoil({2}, NAN)])
    assert not runner.model.backbone.blocks[0].mlp.fc1.weight.isfinite().all()
    assert 'it reached the weights' in events(tmp_path / 'run', 'non_finite')[0]['message']


def test_a_queue_stays_clean(tmp_path):
    neck = dict(type='NonLinearNeck', in_channels=16, hid_channels=12, out_channels=8, norm_cfg=dict(type='BN1d'))
    head = dict(type='ContrastiveHead', temperature=0.2)
    model = dict(
        type='MoCo', backbone=VIT, neck=neck, head=head, queue_len=40, feat_dim=8, data_preprocessor=PREPROCESSOR
    )
    record = Record()
    runner = train(tmp_path / 'run', model=model, extra=[SpoilImages({6}), record])
    assert runner.model.queue.keys.isfinite().all()
    assert torch.isfinite(torch.tensor(record.losses)).tolist() == [i != 6 for i in range(16)]
    assert events(tmp_path / 'run', 'state')[0]['state'] == 'queue warming'


def test_a_bad_micro_batch_spoils_its_step_alone(tmp_path):
    record = Record()
    optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9), accumulative_counts=2)
    runner = train(tmp_path / 'run', optim_wrapper=optim_wrapper, extra=[Spoil({4}, NAN), record])
    hook = next(hook for hook in runner.hooks if isinstance(hook, StabilityHook))
    assert hook.skipped == 1
    assert same(queries_without_statistics(record.states[5]), queries_without_statistics(record.states[3]))
    assert not same(queries_without_statistics(record.states[7]), queries_without_statistics(record.states[5]))
    dump = torch.load(tmp_path / 'run' / 'bad_steps' / 'iter_5.pth', weights_only=True)
    assert len(dump['batches']) == 2


def queries_without_statistics(state: dict) -> dict:
    return {name: value for name, value in queries(state).items() if 'running' not in name}


SPIKE = dict(epochs=10, lr=1e-3)  # 40 steps; decisions from the 21st on


def spiking(tmp_path, reaction: str, at: set[int], **settings):
    record = Record()
    runner = train(
        tmp_path / 'run', extra=[Spoil(at, 1e4), record], hooks=stability(on_spike=reaction, **settings), **SPIKE
    )
    return runner, record, events(tmp_path / 'run', 'spike')


def test_a_spike_is_told_once(tmp_path):
    _, record, found = spiking(tmp_path, 'warn', {30, 31, 32})
    assert [event['iter'] for event in found] == [31]
    assert found[0]['evidence']['blocks.0 / median'] > 20
    assert 'learning rate' in found[0]['causes'][0]
    assert not same(queries(record.states[30]), queries(record.states[29]))


def test_skip(tmp_path):
    _, record, found = spiking(tmp_path, 'skip', {30})
    assert same(queries(record.states[30]), queries(record.states[29]))
    assert 'left out' in found[0]['message']


def test_clip(tmp_path):
    """SGD without momentum moves by the learning rate times the gradient: as far as in a median step."""
    record = Record()
    optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01))
    runner = train(
        tmp_path / 'run',
        epochs=10,
        optim_wrapper=optim_wrapper,
        extra=[Spoil({30}, 1e4), record],
        hooks=stability(on_spike='clip'),
    )
    trained = {name for name, p in runner.model.named_parameters() if p.requires_grad and '.blocks.0.' in name}
    moves = [
        torch.cat([(after[name] - before[name]).flatten() for name in trained]).norm().item()
        for before, after in zip(record.states, record.states[1:])
    ]
    medians = sorted(moves[:29])
    assert moves[29] == pytest.approx(medians[14], rel=0.05)
    assert [event['iter'] for event in events(tmp_path / 'run', 'spike')] == [31]


def test_freeze(tmp_path):
    model = config(dict(VIT, stop_grad_conv1=False), data_preprocessor=PREPROCESSOR)
    record = Record()
    train(tmp_path / 'run', model=model, extra=[Spoil({30}, 1e4), record], hooks=stability(on_spike='freeze'), **SPIKE)
    weights = [state['backbone.patch_embed.proj.weight'] for state in record.states]
    assert not torch.equal(weights[29], weights[28])
    assert torch.equal(weights[30], weights[29])
    assert torch.equal(weights[39], weights[29])
    fc1 = [state['backbone.blocks.0.mlp.fc1.weight'] for state in record.states]
    assert not torch.equal(fc1[39], fc1[38])


def test_nothing_to_freeze(tmp_path):
    with pytest.raises(ValueError, match='stop_grad_conv1=False'):
        train(tmp_path / 'run', hooks=stability(on_spike='freeze'))


@pytest.mark.parametrize(
    ('settings', 'factor'), [(dict(on_spike='rollback'), 1e4), (dict(on_non_finite='rollback'), NAN)]
)
def test_roll_back(tmp_path, settings, factor):
    record = Record()
    runner = train(
        tmp_path / 'run',
        extra=[Spoil({30}, factor), record],
        hooks=stability(snapshot_interval=12, **settings),
        epochs=10,
        lr=1e-3,
    )
    (event,) = events(tmp_path / 'run', 'rollback')
    back = event['evidence']['snapshot_iter']
    assert back == 24
    assert same(queries(record.states[30]), queries_before(record, back))
    steps = {float(state['step']) for state in runner.optim_wrapper.optimizer.state.values()}
    assert steps == {24.0 + 9}  # 24 before the snapshot, 9 after the step that went wrong
    assert not same(queries(record.states[31]), queries(record.states[30]))


def queries_before(record: Record, step: int) -> dict:
    """Weights before that step; BatchNorm statistics after its forward pass, as the snapshot has them."""
    weights, statistics = queries(record.states[step - 1]), queries(record.states[step])
    return {name: (statistics if is_statistic(name) else weights)[name] for name in weights}


def is_statistic(name: str) -> bool:
    return 'running' in name


def test_a_run_that_cannot_recover_ends(tmp_path):
    with pytest.raises(ValueError, match='3 steps in a row.*iteration 6.*mocox replay'):
        train(tmp_path / 'run', extra=[Spoil(set(range(3, 99)), NAN)], hooks=stability(max_skips=3))


@pytest.mark.parametrize(
    'bad', [dict(on_spike='explode'), dict(on_non_finite='clip'), dict(spike_factor=1.0), dict(window=0)]
)
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        StabilityHook(**bad)


class Late(Hook):
    """Decides as on a GPU: with a flag that the host does not read, and norms that it reads one step later."""

    def before_train(self, runner):
        next(hook for hook in runner.hooks if isinstance(hook, StabilityHook)).late = True


OPTIMIZERS = [
    dict(type='AdamW', lr=1e-3, fused=True),
    dict(type='SGD', lr=1e-2, momentum=0.9, fused=True),
    dict(type='LARS', lr=0.1, weight_decay=1e-4),
    dict(type='AdamW', lr=1e-3),
]


def replicas(folder: str) -> dict:
    """Weights of this process after a spike that is clipped, where rank 1 measures norms one ulp larger."""
    call = LayerNorms.__call__
    with pytest.MonkeyPatch.context() as patch:
        larger = lambda norms: call(norms) * (1 + 2**-23 * dist.rank())  # noqa: E731
        patch.setattr(LayerNorms, '__call__', larger)
        runner = train(
            Path(folder),
            epochs=14,  # of two steps
            extra=[Spoil({24}, 1e4)],
            hooks=stability(on_spike='clip'),
            launcher='pytorch',
            env_cfg=dict(dist_cfg=dict(backend='gloo')),
            model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False),
        )
    return {name: p.detach() for name, p in dist.unwrap(runner.model).named_parameters()}


@pytest.mark.dist
def test_replicas_whose_norms_differ_in_the_last_bit_stay_equal(tmp_path):
    first, second = run_processes(replicas, 2, str(tmp_path))
    assert [event['kind'] for event in events(tmp_path)].count('spike') >= 1
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_fused_sgd_survives_a_first_step_that_is_left_out():
    """Torch leaves its momentum buffers as they were allocated then; the oracle is SGD that has not seen that step."""
    found = []
    for fused in (True, False):
        parameter = torch.nn.Parameter(torch.ones(1000))
        optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9, fused=fused)
        assert fill_momentum_buffers(optimizer)
        if fused:
            parameter.grad, optimizer.found_inf = torch.full((1000,), NAN), torch.ones(())
            optimizer.step()
            optimizer.found_inf = torch.zeros(())
        for value in (1.0, -3.0):
            parameter.grad = torch.full((1000,), value)
            optimizer.step()
        found.append(parameter.detach())
    assert torch.equal(*found)
    assert torch.allclose(found[0], torch.tensor(1 - 0.1 - 0.1 * (0.9 - 3.0)))


def test_a_first_step_of_sgd_with_dampening_is_not_left_out_by_a_flag():
    parameter = torch.nn.Parameter(torch.ones(2))
    assert not fill_momentum_buffers(torch.optim.SGD([parameter], momentum=0.9, dampening=0.1, fused=True))


def test_the_first_step_of_a_fused_sgd_may_be_bad(tmp_path):
    settings = dict(type='SGD', lr=1e-2, momentum=0.9, fused=True)
    wrapper = dict(type='OptimWrapper', optimizer=settings)
    runner = train(tmp_path, epochs=2, optim_wrapper=wrapper, extra=[Late(), Spoil({0}, NAN)], hooks=stability())
    assert all(value.isfinite().all() for value in runner.model.state_dict().values())


def test_going_back_leaves_no_norms_of_gradients_that_are_gone(tmp_path):
    """A late reader drops the gradient of the next step: nothing is measured, and no zero enters the medians."""
    reactions = dict(on_non_finite='rollback', on_spike='clip')
    runner = train(tmp_path, epochs=9, extra=[Late(), Spoil({14}, NAN)], hooks=stability(**reactions))
    hook = next(hook for hook in runner.hooks if isinstance(hook, StabilityHook))
    history = hook.detector.history[: hook.detector.count]
    assert len(history) > 20 and (history[:, [name != 'cls_token' for name in hook.norms.names]] > 0).all()
    assert 'rollback' in [event['kind'] for event in events(tmp_path)]


@pytest.mark.parametrize('optimizer', OPTIMIZERS, ids=['AdamW', 'SGD', 'LARS', 'no flag'])
@pytest.mark.parametrize('reaction', ['skip', 'clip'])
def test_a_late_reader_gets_the_same_weights(tmp_path, optimizer, reaction):
    runners = [
        train(
            tmp_path / name,
            epochs=9,
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(optimizer)),
            extra=[*extra, Spoil({8}, NAN, 'neck'), SpoilImages({10}), Spoil({28}, 1e4)],
            hooks=stability(on_spike=reaction),
        )
        for name, extra in (('early', []), ('late', [Late()]))
    ]
    early, late = (runner.model.state_dict() for runner in runners)
    assert all(value.isfinite().all() for value in late.values())
    assert same(
        {k: v for k, v in early.items() if 'num_batches' not in k},
        {k: late[k] for k in early if 'num_batches' not in k},
    )
    assert takes_flag(runners[0].optim_wrapper.optimizer) is (
        optimizer.get('fused', False) or optimizer['type'] == 'LARS'
    )
    found = [
        [(event['kind'], event['evidence']) for event in events(tmp_path / name)[1:-1]] for name in ('early', 'late')
    ]
    assert [kind for kind, _ in found[0]].count('non_finite') == 2
    hooks = [next(hook for hook in runner.hooks if isinstance(hook, StabilityHook)) for runner in runners]
    assert hooks[0].skipped == hooks[1].skipped == 2 + (reaction == 'skip')


def test_lars_leaves_a_flagged_step_out():
    weight = torch.nn.Parameter(torch.randn(3, 4))
    optimizer = LARS([weight], lr=0.1)
    weight.grad = torch.randn(3, 4)
    optimizer.step()
    before, buffer = weight.detach().clone(), optimizer.state[weight]['mu'].clone()
    weight.grad = torch.full((3, 4), NAN)
    optimizer.found_inf = torch.ones(())
    optimizer.step()
    assert torch.equal(weight, before)
    assert torch.equal(optimizer.state[weight]['mu'], buffer)


def test_resume_decides_like_the_uninterrupted_run(tmp_path):
    """The spike comes soon after the resume: without the saved medians nothing would be decided."""
    saving = dict(
        stability=dict(type='StabilityHook', on_spike='skip'), checkpoint=dict(type='CheckpointHook', interval=6)
    )
    straight = train(
        tmp_path / 'straight', epochs=8, lr=1e-3, default_hooks=saving, extra=[Spoil({5}, NAN), Spoil({26}, 1e4)]
    )
    resumed = train(
        tmp_path / 'resumed',
        epochs=8,
        lr=1e-3,
        default_hooks=copy.deepcopy(saving),
        extra=[Spoil({26}, 1e4)],
        load_from=str(tmp_path / 'straight' / 'epoch_6.pth'),
        resume=True,
    )
    assert same(straight.model.state_dict(), resumed.model.state_dict())
    hook = next(hook for hook in resumed.hooks if isinstance(hook, StabilityHook))
    assert hook.skipped == 2
    torch.load(tmp_path / 'straight' / 'epoch_6.pth', weights_only=True)


class DiskGoes(Hook):
    """As where a mount vanishes, with the folder of the run."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 4:
            Path(runner.work_dir).rename(f'{runner.work_dir}_elsewhere')


def test_a_bad_step_on_a_disk_that_is_gone_does_not_end_the_run_nor_makes_its_folder_anew(tmp_path):
    backend = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
    runner = train(tmp_path / 'run', extra=[DiskGoes(), Spoil({6}, NAN)], visualizer=backend)
    assert runner.iter == 16
    assert not (tmp_path / 'run').exists()
    assert (tmp_path / 'run_elsewhere').exists()


class SpoilOneRank(Hook):
    """Spoils the images of the second process alone."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        bad = runner.iter == 5 and runner.rank == 1
        dist.unwrap(runner.model).data_preprocessor.mean.fill_(NAN if bad else 127.0)


def _sharded(folder: str, wrapper: str) -> tuple[list[float], int]:
    settings = dict(device_ids=None, broadcast_buffers=False) if wrapper == 'MMDistributedDataParallel' else {}
    runner = train(
        Path(folder, wrapper),
        extra=[SpoilOneRank()],
        launcher='pytorch',
        env_cfg=dict(dist_cfg=dict(backend='gloo')),
        model_wrapper_cfg=dict(type=wrapper, **settings),
    )
    hook = next(hook for hook in runner.hooks if isinstance(hook, StabilityHook))
    return hook.layer_norms, hook.skipped


@pytest.mark.dist
@pytest.mark.slow
def test_a_sharded_model_decides_like_a_whole_one(tmp_path):
    whole = run_processes(_sharded, 2, str(tmp_path), 'MMDistributedDataParallel')
    sharded = run_processes(_sharded, 2, str(tmp_path), 'mocox.FullyShard')
    assert [skipped for _, skipped in whole + sharded] == [1] * 4
    assert sharded[0] == sharded[1]
    assert sharded[0][0] == pytest.approx(whole[0][0], rel=1e-2)
    assert not (tmp_path / 'mocox.FullyShard' / 'bad_steps').exists()


class SeesGoingBack(Hook):
    """Whether the parts of the weights that this process keeps are after the bad step what they were at first."""

    priority = 'LOWEST'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        parts = [part.detach() for part in own_parts(runner.model.parameters())]
        if runner.iter == 0:
            self.first = [part.clone() for part in parts]
        if runner.iter == 5:
            self.moved = any(not torch.equal(*pair) for pair in zip(parts, self.first))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 5:
            parts = [part.detach() for part in own_parts(runner.model.parameters())]
            self.is_back = all(torch.equal(*pair) for pair in zip(parts, self.first, strict=True))


class Scores(Hook):
    """Validation scores, as an evaluator would give them to all processes."""

    def after_train_epoch(self, runner):
        hook = next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
        hook.after_val_epoch(runner, metrics=dict(accuracy=-float(runner.epoch)))  # the first one is the best


def _sharded_goes_back(folder: str) -> tuple[bool, bool, int, bool]:
    seen = SeesGoingBack()
    runner = train(
        Path(folder, 'run'),
        default_hooks=dict(
            stability=dict(type='StabilityHook', on_non_finite='rollback'),
            checkpoint=dict(type='CheckpointHook', save_best='accuracy', rule='greater'),
        ),
        extra=[SpoilOneRank(), seen, Scores()],
        launcher='pytorch',
        env_cfg=dict(dist_cfg=dict(backend='gloo')),
        model_wrapper_cfg=dict(type='mocox.FullyShard'),
    )
    finite = all(bool(part.isfinite().all()) for part in own_parts(runner.model.parameters()))
    return seen.moved, seen.is_back, runner.iter, finite


@pytest.mark.dist
@pytest.mark.slow
def test_a_sharded_model_goes_back_and_saves_its_best(tmp_path):
    assert run_processes(_sharded_goes_back, 2, str(tmp_path)) == [(True, True, 8, True)] * 2
    (best,) = (tmp_path / 'run').glob('best_accuracy_*.pth')
    saved = torch.load(best, weights_only=True)['state_dict']
    last = torch.load(tmp_path / 'run' / 'epoch_4.pth', weights_only=True)['state_dict']
    assert {name: value.shape for name, value in saved.items()} == {name: value.shape for name, value in last.items()}


def _goes_back_where_it_saves(folder: str) -> dict:
    runner = train(
        Path(folder, 'run'),
        default_hooks=dict(
            stability=dict(type='StabilityHook', on_non_finite='rollback'),
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2),
        ),
        extra=[Late(), SpoilOneRank()],
        launcher='pytorch',
        env_cfg=dict(dist_cfg=dict(backend='gloo')),
        model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False),
    )
    return {name: value.detach() for name, value in runner.model.state_dict().items() if 'running' not in name}


@pytest.mark.dist
@pytest.mark.slow
def test_late_readers_go_back_at_the_same_step_where_the_bad_one_is_saved(tmp_path):
    one, other = run_processes(_goes_back_where_it_saves, 2, str(tmp_path))
    assert same(one, other)


def _distributed(folder: str) -> tuple[dict, int, float]:
    record = Record()
    runner = train(
        Path(folder, 'run'),
        extra=[SpoilOneRank(), record],
        launcher='pytorch',
        env_cfg=dict(dist_cfg=dict(backend='gloo')),
        model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False),
    )
    hook = next(hook for hook in runner.hooks if isinstance(hook, StabilityHook))
    state = {name: value.detach() for name, value in runner.model.state_dict().items() if 'running' not in name}
    return state, hook.skipped, runner.message_hub.get_scalar('train/contrastive_top1').current()


@pytest.mark.dist
def test_two_processes_decide_alike(tmp_path):
    (first, skipped, top1), (second, skipped_too, top1_too) = run_processes(_distributed, 2, str(tmp_path))
    assert skipped == skipped_too == 1
    assert same(first, second)
    assert all(value.isfinite().all() for value in first.values())
    assert top1 == top1_too
    assert len(events(tmp_path / 'run', 'non_finite')) == 1
    assert {path.name for path in (tmp_path / 'run' / 'bad_steps').iterdir()} == {
        'iter_6_rank0.pth',
        'iter_6_rank1.pth',
    }
    first_file, second_file = (tmp_path / 'run' / 'bad_steps' / f'iter_6_rank{rank}.pth' for rank in range(2))
    assert not _tensors_beside_batches(second_file)  # nobody waits for gigabytes of several processes
    weights, replay = torch.load(first_file, weights_only=True)['state_dict'], replay_step(second_file)
    torch.testing.assert_close(replay.dump['state_dict'], weights, rtol=0, atol=0, equal_nan=True)
    assert len(replay.losses) == 1
    first_file.unlink()
    with pytest.raises(FileNotFoundError, match=r'holds the images of process 1.*copy iter_6_rank0\.pth'):
        replay_step(second_file)


def _tensors_beside_batches(path: Path) -> list[str]:
    content = torch.load(path, weights_only=True)
    return [key for key in ('state_dict', 'optimizer') if content[key] is not None]
