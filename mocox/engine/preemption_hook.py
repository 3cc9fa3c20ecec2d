"""Preemption: on the cluster's signal, save and exit with a code that asks for a restart."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mocox import dist
from mocox.engine.batches import accumulative_counts
from mocox.engine.checkpoint_hook import CheckpointHook
from mocox.engine.run_end import at_end
from mocox.processes import EXIT_PREEMPTED, group
from mocox.registry import HOOKS

SIGNALS = ('SIGTERM', 'SIGUSR1')


@contextmanager
def workers_shielded(loader: DataLoader) -> Iterator[None]:
    """Make the workers that a loader starts in the block ignore signals of the cluster.

    Clusters send their signals to every process of a job. A worker that died of one would take the training down before
    it has saved. Where the system does not tell who has sent a signal (it does on Linux), nothing is changed.
    """
    if not loader.num_workers or not hasattr(signal, 'sigwaitinfo'):
        yield
        return
    if getattr(loader.worker_init_fn, 'func', None) is not _init_worker:
        loader.worker_init_fn = partial(_init_worker, loader.worker_init_fn)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [getattr(signal, name) for name in SIGNALS])  # workers inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _init_worker(init: Callable[[int], None] | None, worker: int) -> None:
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    if init is not None:
        init(worker)


def _end_with_parent(parent: int) -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        pass
    os._exit(0)


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Save and exit after SIGTERM or SIGUSR1, at the end of the optimizer step, in all processes at once.

    A signal may reach one process only or all at different times. So the processes ask each other about every
    ``seconds``: one collective of two numbers, the second of which is how long an iteration takes, from which all
    compute the same next time to ask. A single process looks at every iteration.

    The process ends with exit code 75 once the checkpoint is on the disk; continue with ``--resume``.

    Args:
        seconds: Between two questions. Saving itself takes as long as it takes: the grace time must cover both.
    """

    priority = 'LOWEST'  # after CheckpointHook, so that an iteration is not saved twice

    def __init__(self, seconds: float = 2.0) -> None:
        if seconds <= 0:
            raise ValueError(f'seconds={seconds}: must be positive; 2 is right for grace times of 30 s and more')
        self.seconds = seconds
        self.received: str | None = None
        self.former: dict[int, Any] = {}

    def before_run(self, runner: Runner) -> None:
        """Make sure that the signal handlers are restored: a notebook or a service outlives a run."""
        at_end(runner, self._give_back)

    def before_train(self, runner: Runner) -> None:
        """Install the signal handlers, where Python allows that in this thread."""
        self.last_iter, self.last_time, self.next_iter = runner.iter, time.monotonic(), runner.iter + 1
        if threading.current_thread() is threading.main_thread():
            numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
            self.former = {number: signal.signal(number, self._receive) for number in numbers}

    def _give_back(self) -> None:
        for number, handler in self.former.items():
            signal.signal(number, handler)
        self.former = {}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Save and exit if any process was asked to."""
        done = runner.iter + 1
        if done % accumulative_counts(runner.optim_wrapper) or done == runner.max_iters or not self._is_asked(done):
            return
        name = self.received or 'a signal to another process'
        hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
        runner.logger.warning(f'{name}: saving after iteration {done} and exiting.')
        saved = all(hook.save_now(runner) for hook in hooks[:1])
        group.meet()  # the first process may write for longer than a collective waits
        (failed,) = dist.maxima([not saved])  # barrier: no process exits before the file is written
        if failed:
            raise OSError(
                f'received {name}, but no checkpoint could be written at iteration {done}; see the error above. '
                'The previous one is intact'
            )
        runner.logger.warning(
            f'Exiting with code {EXIT_PREEMPTED}: start the same command again, with --resume at its end.'
            if hooks
            else f'Exiting with code {EXIT_PREEMPTED} without saving: default_hooks.checkpoint is not a mocox hook.'
        )
        if group.ends_with_run:  # torchrun and srun send SIGTERM when the first process leaves: the code stays 75
            self.former = dict.fromkeys(self.former, signal.SIG_IGN)
        raise SystemExit(EXIT_PREEMPTED)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number).name
        group.note_signal()

    def _is_asked(self, done: int) -> bool:
        """True if any process has received a signal, as far as all know."""
        if dist.world_size() == 1:
            return self.received is not None
        if done < self.next_iter:
            return False
        now = time.monotonic()
        asked, seconds = dist.maxima([self.received is not None, (now - self.last_time) / (done - self.last_iter)])
        self.last_iter, self.last_time = done, now
        self.next_iter = done + min(max(int(self.seconds / seconds), 1), 1000)
        return bool(asked)


def was_restarted() -> bool:
    """True if torchrun started this process in place of one that failed (``--max-restarts``)."""
    return int(os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)) > 0
