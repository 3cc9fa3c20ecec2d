"""The sections of a report: which charts, of which scalars, with which levels and marks."""

from dataclasses import dataclass

from matplotlib import colormaps

from mocox.report.charts import NUM_COLORS, NUM_DASHES, Band, Chart, Level, Line, Mark, draw_chart
from mocox.report.expected import Expected
from mocox.report.runs import Run
from mocox.report.scalars import Series

LOGARITHMIC = ('grad_norm',)
RANGES = {'progress': (0, 100), 'knn_online': (0, None), 'data_wait': (0, None), 'images_per_second': (0, None)}
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


@dataclass
class Section:
    """A heading with its charts."""

    id: str
    title: str
    charts: list[Chart]


def sections_of(runs: list[Run], expected: list[Expected]) -> list[Section]:
    """All sections of the page, some perhaps without charts.

    Args:
        runs: Drawn over each other.
        expected: Curves that were measured elsewhere.
    """
    found, curves = [], [curve for curve in expected if curve.scalar.startswith('knn')]
    for id_, title, charts in SECTIONS:
        drawn = [_chart(runs, *chart, curves if chart[0] == 'knn_online' else []) for chart in charts]
        if id_ == 'learning':
            names = dict.fromkeys(name for run in runs for name in run.metrics)
            drawn += [_metric_chart(runs, name) for name in names]
        if id_ == 'stability':
            drawn += [_layers_chart(run, len(runs) > 1) for run in runs]
        found.append(Section(id_, title, [chart for chart in drawn if chart]))
    return found


def _chart(runs: list[Run], name: str, title: str, caption: str, expectations: list[Expected]) -> Chart | None:
    lines, bands = [], []
    for number, run in enumerate(runs):
        color, dash = number % NUM_COLORS, number % NUM_DASHES
        if name in run.scalars:
            lines.append(Line(run.name, *_points(run, run.scalars[name]), color, dash))
        if name == 'knn_online':
            if 'knn_offline' in run.scalars:
                offline = _points(run, run.scalars['knn_offline'])
                lines.append(Line(f'{run.name}, held out', *offline, color, dash, dots=True))
                caption = (
                    'Percent whose class their neighbours tell; line: augmented training images, dots: held-out ones.'
                )
            for scalar, words in (('knn_plain', 'plain images'), ('knn_start', 'plain images, at the start')):
                if scalar in run.scalars:
                    points = _points(run, run.scalars[scalar])
                    lines.append(Line(f'{run.name}, {words}', *points, color, 2, thin=True))
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
