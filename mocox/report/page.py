"""Render runs as one self-contained HTML page."""

import datetime
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import colormaps

from mocox.checkpoint.files import write_atomically
from mocox.report import recipe
from mocox.report.charts import NUM_COLORS, NUM_DASHES, Band, Chart, Level, Line, Mark, draw_chart
from mocox.report.expected import Expected, describe, expected_of
from mocox.report.facts import Fact, facts_of, next_steps, timeline_of
from mocox.report.pictures import Pictures
from mocox.report.runs import ODD, Run, Series
from mocox.report.verdict import RunVerdict, format_value, judge
from mocox.version import __version__

MAX_BYTES = 5_000_000
SHAPES = ('dot', 'tri', 'box', 'dia')
# Section, then scalar, title, caption; a chart for each that some run has logged.
SECTIONS = (
    (
        'learning',
        'Does it learn?',
        (
            ('loss', 'Contrastive loss', 'Should fall from chance towards the floor.'),
            ('progress', 'Progress', 'In percent: chance is 0, the floor 100, which no real run reaches.'),
            ('knn_online', 'k-NN accuracy', 'Percent of augmented training images whose class their neighbours tell.'),
            ('contrastive_top1', 'Contrastive top-1', 'How often the right key is the most similar one, in percent.'),
        ),
    ),
    (
        'features',
        'Are the features alive?',
        (
            ('feature_std', 'Standard deviation of features', 'Near 0: all images look the same to it (collapse).'),
            ('effective_rank', 'Effective rank', 'Directions the features use. It often falls; 1 is a collapse.'),
            ('positive_cosine', 'Cosine of positives', 'Two views of an image; 1 is complete agreement.'),
            ('negative_cosine', 'Cosine of negatives', 'Different images; near 0 is well apart.'),
            ('alignment', 'Alignment', 'Distance of the two views of an image: lower is better.'),
            ('uniformity', 'Uniformity', 'How evenly features fill the sphere: lower is better.'),
        ),
    ),
    (
        'stability',
        'Is it stable?',
        (('grad_norm', 'Gradient norm', 'Of all weights. A spike often costs accuracy without showing in the loss.'),),
    ),
    (
        'schedules',
        'Schedules',
        (
            ('lr', 'Learning rate', 'Of the optimizer, in each step.'),
            ('momentum', 'Key momentum', 'Weight of the old key encoder in its update.'),
        ),
    ),
    (
        'speed',
        'Speed',
        (
            ('images_per_second', 'Images per second', 'Of all processes together.'),
            ('data_wait', 'Waiting for data', 'Percent of a step in which the loader is waited for.'),
            ('memory', 'GPU memory', 'Largest so far, in MB.'),
        ),
    ),
)
LOGARITHMIC = ('grad_norm',)
RANGES = {'progress': (0, 100), 'knn_online': (0, None), 'data_wait': (0, None), 'images_per_second': (0, None)}


@dataclass(frozen=True)
class BeforeAfter:
    """Accuracies with random weights and after training.

    Args:
        title: On what.
        rows: Name, before, after; in words.
    """

    title: str
    rows: list[tuple[str, str, str]]


@dataclass
class Section:
    """A heading with its charts."""

    id: str
    title: str
    intro: str
    charts: list[Chart]


@dataclass
class Card:
    """The headline of one run, to be read in five seconds."""

    run: Run
    verdict: RunVerdict
    method: str
    color: int
    dash: int
    progress: float | None
    chance: str
    floor: str
    facts: list[Fact]
    steps: list[tuple[str, str]]
    timeline: list[dict[str, str]]
    comparison: recipe.Comparison | None
    expected: Expected | None
    environment: list[tuple[str, str]]


def write_report(
    runs: list[Run],
    path: str | Path,
    pictures: Pictures | None = None,
    running: bool = False,
    before_after: BeforeAfter | None = None,
) -> int:
    """Write the page atomically.

    Args:
        runs: One or more, drawn over each other.
        path: The HTML file.
        pictures: Images to show; of the first run.
        running: The training has not ended.
        before_after: Accuracies of the same backbone before and after training.

    Returns:
        Its size in bytes.

    Raises:
        ValueError: It would have 5 MB or more.
    """
    content = render(runs, pictures or Pictures(), running, before_after).encode('utf-8', 'replace')
    if len(content) >= MAX_BYTES:
        raise ValueError(f'the report would have {len(content) / 1e6:.1f} MB, more than 5: name fewer work dirs')
    write_atomically(path, lambda temporary: Path(temporary).write_bytes(content))
    return len(content)


def render(runs: list[Run], pictures: Pictures, running: bool = False, before_after: BeforeAfter | None = None) -> str:
    """The page as text."""
    cards = [_card(run, number, running) for number, run in enumerate(runs)]
    return _template().render(
        title=runs[0].title if len(runs) == 1 else f'{len(runs)} runs',
        version=__version__,
        written=datetime.datetime.now().strftime('%Y-%m-%d %H:%M'),
        running=running,
        before_after=before_after,
        cards=cards,
        sections=[section for section in _sections(runs, cards) if section.charts],
        pictures=pictures,
        shows=dict(
            look=bool(pictures.pairs or pictures.neighbours),
            pictures=bool(pictures.attention or pictures.maps or pictures.notes),
            recipe=any(card.comparison for card in cards),
        ),
    )


@cache
def _template() -> Any:
    environment = Environment(loader=PackageLoader('mocox.report', '.'), autoescape=True, undefined=StrictUndefined)
    environment.globals.update(
        describe=describe,
        stroke_class=lambda color: f's{color}' if isinstance(color, int) else '',
        fill_class=lambda color: f'f{color}' if isinstance(color, int) else '',
        shape_of=lambda number: SHAPES[number // 8 % len(SHAPES)],
    )
    return environment.get_template('page.html')


def _card(run: Run, number: int, running: bool) -> Card:
    levels = [run.scalars[name].last if name in run.scalars else None for name in ('chance', 'floor')]
    chance, floor = ('' if level is None else f'{level:.2f}' for level in levels)
    progress = run.scalars['progress'].recent(3) if 'progress' in run.scalars else None
    comparison, method, expected = None, None, None
    try:
        comparison = recipe.compare(run.config, run.world_size) if run.config.get('model') else None
        method = recipe.method_of(run.recipe)
        expected = expected_of(run)
    except ODD as error:  # in a stranger's config
        run.warnings.append(f'the config of {run.folder} is not compared: {type(error).__name__}: {error!s:.200}')
    verdict = judge(run)
    return Card(
        run,
        verdict,
        method or '',
        number % NUM_COLORS,
        number % NUM_DASHES,
        progress if progress is None or progress == progress else None,
        chance,
        floor,
        facts_of(run),
        next_steps(run, verdict, running),
        timeline_of(run),
        comparison,
        expected,
        [(key.replace('_', ' '), format_value(value)) for key, value in run.environment.items() if value is not None],
    )


def _sections(runs: list[Run], cards: list[Card]) -> list[Section]:
    found = []
    for id_, title, charts in SECTIONS:
        drawn = [_chart(runs, *chart, _expectations(cards, chart[0])) for chart in charts]
        if id_ == 'learning':
            names = dict.fromkeys(name for run in runs for name in run.metrics)
            drawn += [_metric_chart(runs, name) for name in names]
        if id_ == 'stability':
            drawn += [_layers_chart(run, len(runs) > 1) for run in runs]
        found.append(Section(id_, title, '', [chart for chart in drawn if chart]))
    return found


def _expectations(cards: list[Card], name: str) -> list[Expected]:
    """The measured curves that belong into a chart, each once."""
    found = {(card.method, card.expected.recipe): card.expected for card in cards if card.expected}
    return [expected for expected in found.values() if name == 'knn_online' and expected.scalar.startswith('knn')]


def _chart(runs: list[Run], name: str, title: str, caption: str, expectations: list[Expected]) -> Chart | None:
    lines, bands = [], []
    for number, run in enumerate(runs):
        color, dash = number % NUM_COLORS, number % NUM_DASHES
        if name in run.scalars:
            lines.append(Line(run.name, *_points(run, run.scalars[name]), color, dash))
        if name == 'knn_online' and 'knn_offline' in run.scalars:
            offline = _points(run, run.scalars['knn_offline'])
            lines.append(Line(f'{run.name}, held out', *offline, color, dash, dots=True))
            caption = 'Percent whose class their neighbours tell; line: augmented training images, dots: held-out ones.'
        if name == 'knn_online':
            for scalar, words in (('knn_plain', 'plain images'), ('knn_start', 'plain images, at the start')):
                if scalar in run.scalars:
                    points = _points(run, run.scalars[scalar])
                    lines.append(Line(f'{run.name}, {words}', *points, number % NUM_COLORS, 2, thin=True))
    for expected in expectations if lines else ():
        epochs, percent = list(expected.percent), list(expected.percent.values())
        lines.append(Line(f'{expected.recipe}, measured', epochs, percent, 6, 3, thin=True))
        margins = [expected.margin(value) for value in percent]
        lows, highs = ([p + sign * m for p, m in zip(percent, margins)] for sign in (-1, 1))
        bands.append(Band(epochs, lows, highs))
    levels = _loss_levels(runs) if name == 'loss' else []
    if name == 'loss' and not any('chance' in run.scalars for run in runs):  # an evaluation, or a method of one's own
        title, caption = 'Loss', 'Should fall.'
    if name == 'loss' and not levels:
        for number, run in enumerate(runs):
            for level in ('chance', 'floor'):
                if level in run.scalars:
                    points = _points(run, run.scalars[level])
                    lines.append(Line(f'{run.name}, {level}', *points, number % NUM_COLORS, 2, thin=True))
    marks = _marks(runs[0]) if name in ('loss', 'grad_norm') and len(runs) == 1 else []
    low, high = RANGES.get(name, (None, None))
    worst = name == 'grad_norm'
    log = name in LOGARITHMIC
    return draw_chart(title, caption, lines, _x_label(runs), levels, marks, log, (low, high), worst, bands)


def _metric_chart(runs: list[Run], name: str) -> Chart | None:
    """Chart of the validation metrics by epoch."""
    lines = [
        Line(run.name, run.metrics[name].iters, run.metrics[name].values, number % NUM_COLORS, number % NUM_DASHES)
        for number, run in enumerate(runs)
        if name in run.metrics
    ]
    return draw_chart(name, 'Of the validation after each epoch.', lines, 'epoch')


def _loss_levels(runs: list[Run]) -> list[Level]:
    """Chance and floor as lines, if they are constant and equal in all runs."""
    levels = []
    for name, words in (('chance', 'chance'), ('floor', 'floor')):
        values = {float(f'{v:.5g}') for run in runs if name in run.scalars for v in run.scalars[name].values}
        if len(values) > 1:
            return []
        levels += [Level(value, f'{words} {value:.2f}') for value in values]
    return levels


def _layers_chart(run: Run, named: bool) -> Chart | None:
    """Gradient norms of all layers: the first thick, the others thin, from dark (first) to light (last)."""
    names = [name for name in run.scalars if name.startswith('grad_norm/')]
    if not names:
        return None
    ramp = colormaps['viridis']
    lines = []
    for place, name in enumerate(names):
        shade = ramp(0.25 + 0.55 * place / max(len(names) - 1, 1))
        color = 1 if place == 0 else '#' + ''.join(f'{round(255 * part):02x}' for part in shade[:3])
        x, y = _points(run, run.scalars[name])
        lines.append(Line(name.removeprefix('grad_norm/'), x, y, color, 0, thin=place > 0))
    lines = lines[1:] + lines[:1]  # the first layer on top
    title = 'Gradient norm of each layer' + (f': {run.name}' if named else '')
    caption = 'Instability begins in the first layer (thick); triangles are spikes. From dark to light: deeper.'
    return draw_chart(title, caption, lines, _x_label([run]), marks=_marks(run), log=True, worst=True)


def _marks(run: Run) -> list[Mark]:
    kinds = ('spike', 'non_finite', 'rollback')
    events = [event for event in run.events if event.get('kind') in kinds and isinstance(event.get('iter'), int)]
    return [Mark(event['iter'] / run.epoch_length, f'{event["kind"]}: {event.get("message", "")}') for event in events]


def _points(run: Run, series: Series) -> tuple[list[float], list[float]]:
    return [place / run.epoch_length for place in series.iters], series.values


def _x_label(runs: list[Run]) -> str:
    return 'epoch' if all(run.epoch_length > 1 for run in runs) else 'iteration'
