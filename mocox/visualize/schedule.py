"""The course of learning rate and momentum that a config asks for, before anything is trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from mocox.checkpoint.files import write_atomically
from mocox.recipe import Recipe, section, type_of
from mocox.registry import DATASETS, HOOKS, PARAM_SCHEDULERS


@dataclass(frozen=True)
class Schedule:
    """One value per iteration.

    Args:
        lr: Learning rate.
        momentum: Weight of the old key encoder; empty for a model without one.
        steps_per_epoch: Iterations of an epoch.
    """

    lr: list[float]
    momentum: list[float]
    steps_per_epoch: int

    def describe(self) -> str:
        """A line for people."""
        peak = max(range(len(self.lr)), key=self.lr.__getitem__)
        said = (
            f'{len(self.lr)} iterations, {self.steps_per_epoch} per epoch; learning rate {self.lr[0]:.3g} at first, '
            f'{self.lr[peak]:.3g} at most (epoch {peak / self.steps_per_epoch:.1f}), {self.lr[-1]:.3g} at last'
        )
        return f'{said}; momentum {self.momentum[0]:.4g} to {self.momentum[-1]:.6g}' if self.momentum else said


def schedule_of(config: dict[str, Any], num_images: int | None = None, processes: int = 1) -> Schedule:
    """Values of the run's own schedulers, stepped through as the run does.

    Args:
        config: Of a training by epochs.
        num_images: Of the training set; by default the data set is opened and counted.
        processes: One per GPU.

    Raises:
        FileNotFoundError: There is no data set, and ``num_images`` is not given.
        ValueError: No training by epochs, or fewer images than a batch.
    """
    if num_images is None:
        num_images = len(DATASETS.build(dict(section(config, 'train_dataloader', 'dataset'))))
    recipe = Recipe(config, processes, num_images)
    peak, steps = recipe.peak_lr, recipe.steps_per_epoch
    if not recipe.epochs or peak is None:
        raise ValueError('a schedule needs train_cfg.max_epochs and optim_wrapper.optimizer.lr')
    if not steps:
        raise ValueError(
            f'{recipe.num_images} images are fewer than a batch of {recipe.batch_size} '
            f'({recipe.images_per_process} x {processes} processes): lower train_dataloader.batch_size'
        )
    total = recipe.epochs * steps
    return Schedule(_learning_rates(config, peak, recipe.epochs, steps), _momenta(config, recipe, total), steps)


def _learning_rates(config: dict[str, Any], peak: float, epochs: int, steps: int) -> list[float]:
    """Values of every iteration: ``steps`` in each of the epochs."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=peak)
    given = config.get('param_scheduler') or []
    schedulers = []
    for entry in given if isinstance(given, list | tuple) else [given]:
        entry = dict(entry)
        by_epoch, converted = entry.setdefault('by_epoch', True), entry.get('convert_to_iter_based', False)
        entry.setdefault('end', epochs if by_epoch else epochs * steps)
        extra = dict(epoch_length=steps) if converted else {}
        scheduler = PARAM_SCHEDULERS.build(dict(entry, optimizer=optimizer, **extra))
        schedulers.append((by_epoch and not converted, scheduler))
    rates = []
    for step in range(1, epochs * steps + 1):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for by_epoch, scheduler in schedulers:
            if not by_epoch or step % steps == 0:
                scheduler.step()
    return rates


def _momenta(config: dict[str, Any], recipe: Recipe, total: int) -> list[float]:
    hooks = [hook for hook in config.get('custom_hooks') or [] if type_of(hook) == 'MomentumUpdateHook']
    if not hooks or recipe.momentum is None:
        return []
    hook = HOOKS.build(dict(hooks[0]))
    return [hook.coefficient(recipe.momentum, step, total) for step in range(total)]


def schedule_chart(
    config: dict[str, Any], out: str | Path, num_images: int | None = None, processes: int = 1
) -> Schedule:
    """Draw learning rate and momentum over the epochs as a PNG; see :func:`schedule_of`."""
    schedule = schedule_of(config, num_images, processes)
    shown = [('learning rate', schedule.lr)]
    shown += [('momentum', schedule.momentum)] if schedule.momentum else []
    figure = Figure(figsize=(8, 2.6 * len(shown)), layout='constrained')
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    stride = max(len(schedule.lr) // 4000, 1)
    epochs = [step / schedule.steps_per_epoch for step in range(0, len(schedule.lr), stride)]
    for axis, (name, values) in zip(axes, shown, strict=True):
        axis.plot(epochs, values[::stride])
        axis.set_ylabel(name)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel('epoch')
    write_atomically(out, lambda path: figure.savefig(path, format='png', dpi=150))
    return schedule
