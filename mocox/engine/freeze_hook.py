"""Train new heads first, on a frozen backbone."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.optim import Optimizer

from mocox import dist
from mocox.registry import HOOKS


@HOOKS.register_module()
class FreezeBackboneHook(Hook):
    """Freeze the backbone during the first epochs of a run.

    Heads begin with random weights, and what they send back would pull a trained backbone away before they have
    learned. The gradient is computed and dropped, so that DistributedDataParallel sees the same parameters all the
    time; the optimizer then moves and decays nothing, and the momentum encoder's backbone, a copy, stays too. The
    running statistics of BatchNorm follow the images, as they do in every forward pass.

    Args:
        epochs: Number of epochs from the start of the run, resumed ones included.

    Raises:
        ValueError: ``epochs`` is negative.
    """

    priority = 'BELOW_NORMAL'  # its step hook then runs after the one of StabilityHook, which watches all gradients

    def __init__(self, epochs: int = 1) -> None:
        if epochs < 0:
            raise ValueError(f'FreezeBackboneHook: epochs={epochs} must be at least 0')
        self.epochs = epochs

    def before_train(self, runner: Runner) -> None:
        """Attach to the optimizer."""
        self.parameters = list(dist.unwrap(runner.model).backbone.parameters())
        self.frozen = runner.epoch < self.epochs
        self.handle = runner.optim_wrapper.optimizer.register_step_pre_hook(self._before_step)
        if self.epochs >= runner.max_epochs:
            runner.logger.warning(
                f'FreezeBackboneHook: epochs={self.epochs} of {runner.max_epochs}: the backbone will not be trained'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Freeze or unfreeze the backbone."""
        was, self.frozen = self.frozen, runner.epoch < self.epochs
        if self.frozen and runner.epoch == 0:
            runner.logger.info(f'The backbone is frozen for {self.epochs} epochs; only the heads are trained.')
        elif was and not self.frozen:
            runner.logger.info(f'Epoch {runner.epoch + 1}: the backbone is trained from here on.')

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for parameter in self.parameters if self.frozen else ():
            parameter.grad = None

    def after_train(self, runner: Runner) -> None:
        """Detach from the optimizer."""
        self.handle.remove()
