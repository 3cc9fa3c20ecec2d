"""Report the position of the training loop to the watchdog of a run of several processes."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mocox.processes import group
from mocox.registry import HOOKS


@HOOKS.register_module()
class WatchdogHook(Hook):
    """Tell the watchdog which iteration this process is in: two assignments per step.

    A training step ends here when the other hooks have read the loss, because before that a GPU may not have begun.
    """

    priority = 'LOWEST'

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Note that the batch has arrived."""
        group.note_progress(runner.iter, in_step=True)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Note that the step has been computed and logged."""
        group.note_progress(runner.iter + 1, in_step=False)
