"""The learning-rate schedule of the papers, exact at every step."""

import logging
from typing import Any

from mmengine.logging import print_log
from mmengine.optim.scheduler.param_scheduler import INF, _ParamScheduler

from mocox.engine.batches import accumulative_counts
from mocox.registry import PARAM_SCHEDULERS
from mocox.schedules import warmup_cosine

STATE = ('last_step', '_global_step', '_last_value', 'base_values')  # of a schedule, in a checkpoint
NO_BATCH = (
    'an epoch has no batch: there are fewer images than train_dataloader.batch_size (times the number of processes), '
    'and drop_last=True leaves out what fills no batch. Lower it: --batch-size N, or '
    '--cfg-options train_dataloader.batch_size=N'
)


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(_ParamScheduler):
    """Linear warm-up from zero, then half a cosine, in closed form.

    Source: arXiv 2104.02057, section 5. The first step's learning rate is exactly 0 when there is a warm-up. With
    ``convert_to_iter_based=True`` in the config the schedule advances every iteration, else every epoch (the cosine of
    MoCo v2 and of linear evaluation). Under gradient accumulation all micro-batches of an optimizer step share the
    value of its first one. Only the position is saved in checkpoints: the shape always follows the config. Parameter
    groups with ``fix_lr=True`` keep their learning rate: set it by ``optim_wrapper.paramwise_cfg.custom_keys``.

    Args:
        optimizer: Optimizer or wrapper; MMEngine passes it.
        warmup_epochs: Epochs of linear warm-up.
        warmup_start_ratio: Where the warm-up starts, as a fraction of the peak.
        warmup_prefix: False starts the cosine in the first step, with the warm-up in place of its first part, as timm's
            scheduler of the same argument does (MoBY).
        delay_epochs: Epochs by which every value comes late; the first one lasts that much longer. It is 1 in scripts
            that hand timm's scheduler the number of an epoch after it (DeiT).
        eta_min: Learning rate at the end.
        begin: First epoch of the schedule.
        end: Epoch at which it ends; MMEngine fills in ``max_epochs``.
        last_step: Position to continue from; -1 starts anew.
        by_epoch: Count epochs (else iterations: then all durations are iterations).
        verbose: Print every change.
    """

    def __init__(
        self,
        optimizer,
        warmup_epochs: float = 0,
        warmup_start_ratio: float = 0.0,
        warmup_prefix: bool = True,
        delay_epochs: float = 0,
        eta_min: float = 0.0,
        begin: int = 0,
        end: int = INF,
        last_step: int = -1,
        by_epoch: bool = True,
        verbose: bool = False,
    ) -> None:
        _check_durations(warmup_epochs=warmup_epochs, delay_epochs=delay_epochs)
        self.warmup = warmup_epochs
        self.delay = delay_epochs
        self.warmup_start_ratio = warmup_start_ratio
        self.warmup_prefix = warmup_prefix
        self.eta_min = eta_min
        super().__init__(optimizer, 'lr', begin, end, last_step, by_epoch, verbose)
        if warmup_epochs and warmup_epochs >= end - begin:
            print_log(
                f'The warm-up takes {warmup_epochs} of {end - begin} steps of the learning rate, which never reaches '
                'its peak: lower param_scheduler.warmup_epochs, or raise train_cfg.max_epochs.',
                logger='current',
                level=logging.WARNING,
            )

    @classmethod
    def build_iter_from_epoch(
        cls,
        optimizer: Any,
        *,
        epoch_length: int,
        warmup_epochs: float = 0,
        delay_epochs: float = 0,
        begin: int = 0,
        end: int = INF,
        by_epoch: bool = True,
        **kwargs: Any,
    ) -> 'WarmupCosineLR':
        """MMEngine's entry for ``convert_to_iter_based``: the same schedule with durations in iterations."""
        if not epoch_length:
            raise ValueError(NO_BATCH)
        _check_durations(warmup_epochs=warmup_epochs, delay_epochs=delay_epochs)
        return cls(
            optimizer,
            warmup_epochs=warmup_epochs * epoch_length,
            delay_epochs=delay_epochs * epoch_length,
            begin=int(begin * epoch_length),
            end=INF if end == INF else int(end * epoch_length),
            by_epoch=False,
            **kwargs,
        )

    def state_dict(self) -> dict:
        """The position and the base values."""
        return {key: getattr(self, key) for key in STATE}

    def load_state_dict(self, state_dict: dict) -> None:
        """Resume at a saved position, with the present schedule's learning rate there.

        MMEngine stops counting ``last_step`` where a schedule ends, and leaves the optimizer the value of the old shape
        until the next step: a run with more epochs would be one step behind a run that had them from the start.
        """
        super().load_state_dict({key: state_dict[key] for key in STATE})
        if not self.begin <= self._global_step < self.end:
            return
        self.last_step = self._global_step - self.begin
        self._last_value = self._get_value()
        for group, value in zip(self.optimizer.param_groups, self._last_value, strict=True):
            group['lr'] = value

    def _get_value(self) -> list[float]:
        step = self.last_step
        if not self.by_epoch:
            step -= step % accumulative_counts(self.optimizer)
        step = max(step - self.delay, 0)
        total = self.end - self.begin
        shape = (self.warmup, total, self.eta_min, self.warmup_start_ratio, self.warmup_prefix)
        groups = zip(self.optimizer.param_groups, self.base_values, strict=True)
        return [base if group.get('fix_lr') else warmup_cosine(step, base, *shape) for group, base in groups]


def _check_durations(**epochs: float) -> None:
    for name, value in epochs.items():
        if value < 0:
            raise ValueError(f'{name} must not be negative, got {value}')
