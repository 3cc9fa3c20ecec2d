"""The states of a run in words."""

from math import isfinite
from typing import TYPE_CHECKING

from mocox.monitors.readings import (
    AT_CHANCE,
    BELOW,
    COLLAPSED,
    DIVERGING,
    LEARNING,
    SATURATED,
    SHORTCUT,
    WARMING,
    Reading,
)

if TYPE_CHECKING:
    from mocox.monitors.learning_state import TrainingState


def describe(machine: 'TrainingState', state: str, r: Reading) -> str:
    """Put a state into words, with the numbers of a reading."""
    progress = machine._smooth_progress()
    top1 = '' if r.top1 is None else f', contrastive top-1 {100 * r.top1:.0f} %'
    knn = '' if r.knn is None else f', k-NN {100 * r.knn:.0f} %'
    best = machine.best_progress or 0.0
    loss = f'{r.loss:.3g}' if isfinite(r.loss) else 'not finite'
    or_folders = ', or folders that are not classes' if machine.never_left_chance() else ''
    recent_knn = machine._recent_knn()
    if state == BELOW:
        return _describe_below(machine, r)
    return {
        WARMING: f'the queue is {100 * r.fill:.0f} % full: until then the loss rises, which is normal',
        AT_CHANCE: 'at chance',
        LEARNING: f'learning: {progress:.0f} % of the way from chance to the floor{top1}{knn}',
        SATURATED: f'saturated: the contrastive task is as good as solved{top1}, the loss stands still{knn}',
        SHORTCUT: f'shortcut suspected{or_folders}: the loss falls{top1}, but k-NN does not rise{knn}',
        COLLAPSED: 'collapsed: the features of different images are all but equal',
        DIVERGING: f'diverging: loss {loss}, progress {progress:.0f} % after {best:.0f} % at best'
        + (f', k-NN {100 * recent_knn:.0f} % after {100 * machine.best_recent_knn:.0f} %' if recent_knn else '')
        + (f', {machine.skipped} steps skipped' if machine.skipped else ''),
    }[state]


def _describe_below(machine: 'TrainingState', r: Reading) -> str:
    if machine.below_since is None:
        return 'no longer below its start'
    now, start = machine.knn_since_start()
    since = r.iteration - machine.below_since
    change = f'{100 * now:.0f} % after {100 * start:.0f} %'
    return f'below its start for {since:,} iterations: k-NN on plain images {change}'
