"""The measured run of a recipe, which runs of the same recipe are compared with."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from mocox.configs import open_config, published_models, shipped_config
from mocox.recipe import Recipe, type_of
from mocox.report.recipe import method_of, settings_of
from mocox.report.runs import Run
from mocox.report.scalars import Series

ERRORS = 2.0  # standard errors of a percentage that do not count as a difference
NOT_COMPARED = ('images', 'epochs')  # settings: a folder's name; the length, which the sentence says


@dataclass(frozen=True)
class Expected:
    """A curve that a metafile has under ``Curve``.

    Args:
        recipe: The name of its config.
        scalar: Name of the measurement in the log.
        words: Its meaning.
        num_images: Measured on.
        max_epochs: Length of that run.
        source: Seed, machine and time.
        percent: By epoch, from 0 on.
        differences: Settings of the run that differ from the recipe's.
    """

    recipe: str
    scalar: str
    words: str
    num_images: int
    max_epochs: int
    source: str
    percent: Mapping[float, float]
    differences: tuple[str, ...] = ()

    def at(self, epoch: float) -> float | None:
        """Percent at an epoch, between two measured ones on the line; None after the last."""
        epochs = list(self.percent)
        if epoch > epochs[-1]:
            return None
        return float(np.interp(epoch, epochs, list(self.percent.values())))

    def margin(self, percent: float) -> float:
        """How far a run may be from it without a difference, in points: the sampling error of so many images."""
        share = percent / 100
        return 100 * ERRORS * (share * (1 - share) / self.num_images) ** 0.5


def expected_of(run: Run) -> Expected | None:
    """The measured curve of the recipe that a run was started with; None without one, and during the first epoch."""
    if run.epoch < 2:  # the log does not tell yet how long an epoch is
        return None
    for model in published_models():
        curve, path = model.get('Curve'), PurePosixPath(model['Config'])
        if curve is None or path.stem != run.recipe_name:
            continue
        if (method_of(run.recipe) or '').partition(',')[0] != model['In Collection']:
            continue
        return Expected(
            path.stem,
            curve['Scalar'],
            curve['Words'],
            curve['Images'],
            curve['Epochs'],
            curve['Source'],
            curve['Percent'],
            _differences(run, open_config(shipped_config(str(path.relative_to('configs')))).to_dict()),
        )
    return None


def _differences(run: Run, config: dict[str, Any]) -> tuple[str, ...]:
    recipe = Recipe(config)
    ours, theirs = settings_of(run.recipe), settings_of(recipe)
    names = [name for name in {**theirs, **ours} if name not in NOT_COMPARED and ours.get(name) != theirs.get(name)]
    if type_of(run.recipe.dataset) != type_of(recipe.dataset):
        names.append('data set')
    return tuple(names)


def describe(run: Run, expected: Expected) -> str:
    """The run beside the measured one, in a sentence; empty where nothing can be compared yet."""
    series = run.scalars.get(expected.scalar)
    if not series:
        return ''
    measured = [(place / run.epoch_length, now) for place, now in _measured(series, run)]
    known = [(epoch, now, then) for epoch, now in measured if (then := expected.at(epoch)) is not None]
    if not known or not np.isfinite(known[-1][1]):
        return ''
    epoch, now, then = known[-1]
    gap, margin = now - then, expected.margin(then)
    word = 'level with' if abs(gap) <= margin else 'above' if gap > 0 else 'below'
    text = (
        f'At epoch {epoch:.3g} {expected.words} is {now:.1f} %, {word} the measured run of the recipe, which was at '
        f'{then:.1f} % ± {margin:.1f} ({expected.max_epochs} epochs, {expected.source}).'
    )
    if expected.differences:
        text += f' This run has another {", another ".join(expected.differences)}.'
    return text


def _measured(series: Series, run: Run) -> Iterator[tuple[int, float]]:
    """The points that were measured. Other lines of the log repeat the last one until the next.

    Equal accuracies may be two measurements: what is measured with them, ``plain_*``, tells.
    """
    beside = [
        other.values for name, other in run.scalars.items() if name.startswith('plain_') and other.iters == series.iters
    ]
    rows = list(zip(series.values, *beside))
    for place, before, row in zip(series.iters, [None, *rows], rows):
        if row != before:
            yield place, row[0]
