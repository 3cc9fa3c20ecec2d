"""Signals of a cluster: saved in time, left with the documented code, continued exactly."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from torch.utils.data import DataLoader

from lab.fault_injection import CASES, build_config, compare, write_images
from mocox.engine import run_end
from mocox.engine.preemption_hook import PreemptionHook, workers_shielded
from mocox.processes import EXIT_PREEMPTED, group
from mocox.run.build import build_runner
from tests.support.processes import forget_runner

VIT, RESNET, _ = CASES.values()
ALONE = {'train_dataloader.num_workers': 0, 'train_dataloader.persistent_workers': False}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    write_images(folder)
    return folder


class SendSignal(Hook):
    def __init__(self, number: int, iteration: int) -> None:
        self.number, self.iteration = number, iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            os.kill(os.getpid(), self.number)


def train(images: Path, work_dir: Path, hook: Hook | None = None, **options) -> None:
    """As ``tools/train.py --resume auto`` does."""
    runner = build_runner(build_config(VIT, images, work_dir, **ALONE, **options))
    if hook:
        runner.register_hook(hook)
    try:
        runner.train()
    finally:
        forget_runner()


def test_saved_left_and_continued(images, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(group, 'ends_with_run', True)  # as in the command line tools
    train(images, tmp_path / 'straight')
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)]
    for number, iteration, saved in ((signal.SIGTERM, 2, 4), (signal.SIGUSR1, 9, 10)):  # two make an optimizer step
        with pytest.raises(SystemExit) as left:
            train(images, tmp_path / 'stopped', SendSignal(number, iteration))
        assert left.value.code == EXIT_PREEMPTED == 75
        path = tmp_path / 'stopped' / f'iter_{saved}.pth'
        assert torch.load(path, weights_only=True)['meta']['iter'] == saved
        assert (tmp_path / 'stopped' / 'last_checkpoint').read_text() == str(path)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            # A handler of Python would be gone before the process is: the signal with which a launcher ends the others
            # after the first one has left would take the place of the exit code.
            assert signal.getsignal(number) == signal.SIG_IGN
            signal.signal(number, signal.SIG_DFL)  # a new process would begin so
    said = capfd.readouterr()
    assert 'SIGUSR1: saving after iteration 10' in said.out + said.err
    for number, handler in zip((signal.SIGTERM, signal.SIGUSR1), before):
        signal.signal(number, handler)
    train(images, tmp_path / 'stopped')
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)] == before
    ends = [torch.load(tmp_path / name / 'epoch_3.pth', weights_only=True) for name in ('stopped', 'straight')]
    assert list(compare(*ends)) == []


def test_leaving_without_a_checkpoint_is_an_error(images, tmp_path, monkeypatch):
    monkeypatch.setattr('mocox.checkpoint.durable.CheckpointWriter._write', lambda *args: False)
    with pytest.raises(OSError, match='no checkpoint could be written at iteration 4'):
        train(images, tmp_path, SendSignal(signal.SIGTERM, 2))


class RaiseError(Hook):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        raise self.error


@pytest.mark.parametrize(
    'hook', [SendSignal(signal.SIGTERM, 2), RaiseError(KeyboardInterrupt()), RaiseError(ValueError('wrong'))]
)
def test_a_host_process_gets_its_signals_back_however_the_run_ends(images, tmp_path, monkeypatch, hook):
    """A notebook or a service must end by its own SIGTERM, and another process may train there."""
    monkeypatch.setattr(group, 'ends_with_run', False)
    numbers = [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGCHLD]

    def answer(number, frame):
        pass

    own = signal.signal(signal.SIGUSR1, answer)
    before = [signal.getsignal(number) for number in numbers]
    try:
        with pytest.raises((SystemExit, KeyboardInterrupt, ValueError)):
            train(images, tmp_path, hook)
        assert [signal.getsignal(number) for number in numbers] == before
        assert not [path for path in run_end._held if path.is_relative_to(tmp_path)]
    finally:
        signal.signal(signal.SIGUSR1, own)


def test_processes_agree_when_to_ask(monkeypatch):
    """Both ask at the same iterations, whatever their own clocks say; the first one to know tells all."""
    hooks = [PreemptionHook(seconds=2.0), PreemptionHook(seconds=2.0)]
    asked_at = [[], []]
    monkeypatch.setattr('mocox.engine.preemption_hook.dist.world_size', lambda: 2)
    for hook in hooks:
        hook.last_iter, hook.last_time, hook.next_iter = 0, 0.0, 1
    answers = []
    for iteration in range(1, 60):
        # All clocks are read before the collective; the second process is twice as slow as it says it is fast.
        now = [0.1 * iteration, 0.2 * iteration]
        values = [
            [hook.received is not None, (clock - hook.last_time) / (iteration - hook.last_iter)]
            for hook, clock in zip(hooks, now)
        ]
        together = [max(pair) for pair in zip(*values)]
        monkeypatch.setattr('mocox.engine.preemption_hook.dist.maxima', lambda own, all_=together: all_)
        results = []
        for rank, (hook, clock) in enumerate(zip(hooks, now)):
            monkeypatch.setattr('mocox.engine.preemption_hook.time.monotonic', lambda clock=clock: clock)
            if iteration >= hook.next_iter:
                asked_at[rank].append(iteration)
            results.append(hook._is_asked(iteration))
        answers.append(results)
        if iteration == 30:
            hooks[1].received = 'SIGTERM'
    assert asked_at[0] == asked_at[1] and asked_at[0][:3] == [1, 11, 21]  # every 2 s of the slower one
    assert answers[29] == [False, False] and answers[30] == [True, True]


class SlowNumbers(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> int:
        time.sleep(0.02)
        return os.getpid()


def test_workers_survive_signals_of_others_and_end_with_their_process():
    loader = DataLoader(SlowNumbers(), batch_size=1, num_workers=1, persistent_workers=True)
    with workers_shielded(loader):
        batches = iter(loader)
    worker = int(next(batches))
    os.system(f'kill -TERM {worker}; kill -USR1 {worker}')  # another process sends it
    assert [int(pid) for pid in batches] == [worker] * 5
    process = batches._workers[0]
    process.terminate()  # its own
    process.join(5)
    assert process.exitcode == 0
    del batches, loader


def test_signals_reach_the_training_after_the_workers_have_started():
    with workers_shielded(DataLoader(SlowNumbers(), num_workers=1)):
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_other_threads_do_not_listen(images):
    hook = PreemptionHook()
    runner = type('R', (), dict(iter=0))()
    thread = threading.Thread(target=hook.before_train, args=(runner,))
    thread.start()
    thread.join()
    assert hook.former == {}


def test_bad_arguments():
    with pytest.raises(ValueError, match='seconds=0'):
        PreemptionHook(seconds=0)
