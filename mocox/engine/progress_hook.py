"""A one-line progress display on the console; the files keep MMEngine's full log."""

import datetime
import logging
import math
import sys
import time
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mocox import dist
from mocox.engine.batches import images_per_process, iteration_seconds
from mocox.engine.lr_schedule import NO_BATCH
from mocox.engine.opening import describe_run
from mocox.notebook import live_line
from mocox.registry import HOOKS
from mocox.terminal import renew_line, say


class _ConsoleFilter(logging.Filter):
    """Keep ``LoggerHook``'s lines off the console, and other lines clear of the progress line."""

    def __init__(self, live: bool) -> None:
        super().__init__()
        self.live = live

    def filter(self, record: logging.LogRecord) -> bool:
        if record.module == 'logger_hook' and any(mark in record.getMessage() for mark in ('(train)', 'Exp name')):
            return False
        if self.live:
            renew_line('')
        return True


@HOOKS.register_module()
class ProgressHook(Hook):
    """Show progress: a line updated in place in a terminal or a notebook, a line at intervals elsewhere.

    Beside the loss stand its chance level, what a model that knows nothing scores, and its floor; then how far the run
    has come between them, its state and its k-NN accuracy, if there is a ``MonitorHook``. Without one, the chance level
    comes from the model's method ``chance_level(batch_size)`` if it has one.

    Args:
        seconds: The least time between two lines where the output is neither a terminal nor a notebook.
    """

    priority = 'VERY_LOW'  # after the hooks that measure

    def __init__(self, seconds: float = 10.0) -> None:
        self.seconds = seconds

    def before_train(self, runner: Runner) -> None:
        """Take the console over from ``LoggerHook``, on the rank that logs; refuse to train without images."""
        if not len(runner.train_dataloader):
            raise ValueError(NO_BATCH)
        self.live = sys.stdout is not None and sys.stdout.isatty()
        self.start_iter, self.start_time = runner.iter, time.monotonic()
        self.last_iter, self.last_time = runner.iter, -math.inf
        self.line = ''
        self.filter = _ConsoleFilter(self.live)
        for handler in self._console_handlers(runner):
            handler.addFilter(self.filter)
        if runner.rank == 0 and runner.logger.isEnabledFor(logging.INFO):
            say(*describe_run(runner).splitlines())
        in_notebook = live_line() if runner.rank == 0 else None
        self.show = in_notebook or (renew_line if self.live else say)
        self.wait = 0.2 if self.live or in_notebook else self.seconds

    def after_train(self, runner: Runner) -> None:
        """Give the console back."""
        if self.live and runner.rank == 0:
            renew_line(self.line, end='\n')  # once more: the last log lines have wiped it out
        for handler in self._console_handlers(runner):
            handler.removeFilter(self.filter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Print when enough time has passed, and after the first and the last iteration."""
        if runner.rank != 0:
            return
        now = time.monotonic()
        if now - self.last_time < self.wait and runner.iter + 1 < runner.max_iters:
            return
        self.line = self._describe(runner, now)
        self.show(self.line)
        self.last_iter, self.last_time = runner.iter + 1, now

    def _describe(self, runner: Runner, now: float) -> str:
        done, total = runner.iter + 1, runner.max_iters
        steps = max(done - self.last_iter, 1)
        since = now - (self.last_time if self.last_iter > self.start_iter else self.start_time)
        images_per_s = (done - self.last_iter) * images_per_process(runner) * runner.world_size / max(since, 1e-9)
        remaining = (now - self.start_time) / (done - self.start_iter) * (total - done)
        loss = runner.message_hub.get_scalar('train/loss').mean(steps)
        parts = [
            f'{_bar(done / total)} {done / total:4.0%}',
            f'epoch {runner.epoch + 1}/{runner.max_epochs}',
            f'loss {loss:.3f}{self._describe_learning(runner)}',
            f'{images_per_s:.0f} img/s{_data_wait(runner, steps)}',
            _memory(),
            f'{datetime.timedelta(seconds=round(remaining))} left',
        ]
        return ' | '.join(part for part in parts if part)

    def _describe_learning(self, runner: Runner) -> str:
        status = runner.message_hub.get_info('monitor', None)
        model = dist.unwrap(runner.model)
        if status is None:
            known = hasattr(model, 'chance_level')
            return f' (chance {model.chance_level(images_per_process(runner)):.3f})' if known else ''
        progress = f' {status["progress"]:.0f}%' if math.isfinite(status['progress']) else ''
        knn = '' if status['knn'] is None else f' | k-NN {100 * status["knn"]:.0f}%'
        if status.get('knn_start') is not None:  # before the first step; both on plain images
            knn += f' ({100 * status["knn_start"]:.0f}%)'
        known = math.isfinite(status['chance'])
        levels = f' (chance {status["chance"]:.2f}, floor {status["floor"]:.2f})' if known else ''
        return f'{levels}{progress} {status["state"]}{knn}'

    def _console_handlers(self, runner: Runner) -> list[logging.Handler]:
        return [handler for handler in runner.logger.handlers if type(handler) is logging.StreamHandler]


def _data_wait(runner: Runner, steps: int) -> str:
    """The share of the time that training waited for images; nothing without MMEngine's timer."""
    times = iteration_seconds(runner, steps)
    return f', {times[1] / times[0]:.0%} waiting' if times else ''


def _memory() -> str:
    """Peak memory so far: of the GPU, or of this process without one; nothing where it is unknown."""
    if torch.cuda.is_available():
        num_bytes = torch.cuda.max_memory_allocated()
    else:
        try:
            import resource
        except ImportError:  # Windows
            return ''
        unit = 1 if sys.platform == 'darwin' else 1024
        num_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return f'{num_bytes / 2**30:.1f} GB'


def _bar(fraction: float, width: int = 12) -> str:
    filled = int(fraction * width)
    return '#' * filled + '.' * (width - filled)
