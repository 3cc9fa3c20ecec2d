"""Render runs as one self-contained HTML page."""

import datetime
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mocox.checkpoint.files import write_atomically
from mocox.report import recipe
from mocox.report.charts import NUM_COLORS, NUM_DASHES
from mocox.report.expected import Expected, describe, expected_of
from mocox.report.facts import Fact, facts_of, next_steps, timeline_of
from mocox.report.pictures import Pictures
from mocox.report.runs import ODD, Run
from mocox.report.sections import sections_of
from mocox.report.verdict import RunVerdict, format_value, judge
from mocox.version import __version__

MAX_BYTES = 5_000_000
SHAPES = ('dot', 'tri', 'box', 'dia')


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
    measured = {(card.method, card.expected.recipe): card.expected for card in cards if card.expected}  # each once
    return _template().render(
        title=runs[0].title if len(runs) == 1 else f'{len(runs)} runs',
        version=__version__,
        written=datetime.datetime.now().strftime('%Y-%m-%d %H:%M'),
        running=running,
        before_after=before_after,
        cards=cards,
        sections=[section for section in sections_of(runs, [*measured.values()]) if section.charts],
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
