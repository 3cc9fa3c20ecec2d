"""Facts of a run besides its verdict, for the page: explained numbers, events, next steps."""

import datetime
import math
import shlex
from dataclasses import dataclass

from mocox.report.closing import next_commands
from mocox.report.runs import Run
from mocox.report.verdict import RunVerdict, format_value

MAX_EVENTS = 40
# Scalar, title, form, meaning.
NUMBERS = (
    ('loss', 'loss', '{:.3f}', 'Falls from chance towards the floor.'),
    ('progress', 'progress', '{:.0f} %', 'Of the way from chance to the floor, which no real run reaches.'),
    ('knn_offline', 'k-NN, held-out images', '{:.1f} %', 'Images not trained on whose class their neighbours tell.'),
    ('knn_online', 'k-NN, training images', '{:.1f} %', 'Augmented images whose class their neighbours tell.'),
    ('knn_plain', 'k-NN, plain images', '{:.1f} %', 'Images as they are whose class their neighbours tell.'),
    ('knn_start', 'k-NN at the start', '{:.1f} %', 'The same with random weights: what training must surpass.'),
    ('effective_rank', 'effective rank', '{:.0f}', 'Directions that the features use; 1 is a collapse.'),
    ('images_per_second', 'images per second', '{:,.0f}', 'Of all processes together.'),
    ('data_wait', 'waiting for data', '{:.0f} %', 'Of the time; where it is much, more workers help.'),
)


@dataclass(frozen=True)
class Fact:
    """A number on the page, and what it means in a line."""

    title: str
    value: str
    meaning: str = ''


def facts_of(run: Run) -> list[Fact]:
    """The numbers that a run has logged, as they are at its end."""
    facts = []
    for name, title, form, meaning in NUMBERS:
        if name in run.scalars:
            value = run.scalars[name].recent(1 if name.startswith(('knn', 'loss')) else 3)
            facts.append(Fact(title, form.format(value) if math.isfinite(value) else 'not finite', meaning))
    validated = [(name, series) for name, series in list(run.metrics.items())[:3] if len(series)]
    facts += [Fact(name, format_value(series.last), 'Of the validation.') for name, series in validated]
    if run.max_epochs:
        facts.append(Fact('epoch', f'{run.epoch} of {run.max_epochs}', 'How often every image was seen.'))
    if 'time' in run.scalars:
        seconds = sum(run.scalars['time'].values) / len(run.scalars['time']) * run.num_iters
        known = math.isfinite(seconds)
        time = str(datetime.timedelta(seconds=round(seconds))) if known else 'not finite'
        facts.append(Fact('training time', time, 'Without what came before the first step.'))
    return facts


def timeline_of(run: Run) -> list[dict[str, str]]:
    """The last events of the monitors."""
    return [
        dict(
            iter=format_value(event.get('iter', '?')),
            what=str(event.get('state') if event.get('kind') == 'state' else event.get('kind', '?')),
            message=str(event.get('message', '')),
        )
        for event in run.events[-MAX_EVENTS:]
    ]


def next_steps(run: Run, verdict: RunVerdict, running: bool) -> list[tuple[str, str]]:
    """Commands, each with what it is for; none during the run, or for what is not pre-training."""
    if running or run.recipe.algorithm is None:
        return []
    config = min(run.folder.glob('*.py'), default=None)
    if config is None:
        return []
    steps = []
    if verdict.tone in ('bad', 'warn'):
        steps.append((f'mocox doctor {shlex.quote(str(config))}', 'what does not go together, and its cure'))
    if run.max_epochs and not run.finished:
        folder = shlex.quote(str(run.folder))
        steps.append((f'mocox train {shlex.quote(str(config))} --work-dir {folder} --resume', 'go on where it stopped'))
    return steps + (next_commands(shlex.quote(str(run.checkpoint))) if run.checkpoint else [])
