"""The output of an evaluation: a table, ``results.json``, a chart."""

import json
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mocox.checkpoint.files import write_atomically
from mocox.evaluation.published import BENCHMARK_OF, Published, find_number
from mocox.evaluation.task import Result
from mocox.version import __version__

VERSIONS = ('torch', 'torchvision', 'timm', 'mmengine', 'mmpretrain', 'numpy', 'scikit-learn')
COLORS = ('#0072B2', '#E69F00', '#009E73', '#CC79A7', '#56B4E9', '#D55E00')  # Okabe and Ito's
GRAY = '#555555'


def software_versions() -> dict[str, str | None]:
    """Versions of all libraries that affect the numbers."""
    return dict(mocox=__version__, python=platform.python_version(), **{name: _version(name) for name in VERSIONS})


def _version(package: str) -> str | None:
    for name in (package, f'onedl-{package}'):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def rows_of(results: list[Result], published: list[Published], benchmark: str | None) -> list[dict[str, Any]]:
    """The results as plain dictionaries, with the published number where recipe and benchmark are the same."""
    rows = []
    for result in results:
        row = asdict(result)
        row['value'] = round(result.value, 2)
        row['std'] = None if result.std is None else round(result.std, 2)
        comparable = benchmark is not None and BENCHMARK_OF.get(result.protocol) == benchmark
        found = find_number(published, result.protocol, result.setting) if comparable else None
        row['published'], row['published_source'] = found or (None, None)
        rows.append(row)
    return rows


def format_table(report: dict[str, Any]) -> list[str]:
    """The lines of the table on the console."""
    lines = [('protocol', 'setting', 'metric', 'result', 'published', 'n')]
    for row in report['results']:
        value = f'{row["value"]:.2f}' + ('' if row['std'] is None else f' +- {row["std"]:.2f}')
        published = '-' if row['published'] is None else f'{row["published"]:.2f}'
        lines.append((row['protocol'], row['setting'], row['metric'], value, published, f'{row["n"]:,}'))
    widths = [max(map(len, column)) for column in zip(*lines)]
    table = ['  '.join(f'{cell:<{w}}' for cell, w in zip(line, widths)).rstrip() for line in lines]
    sources = sorted({row['published_source'] for row in report['results'] if row['published_source']})
    notes = [*report['notes'], *(f'published: {source}' for source in sources)]
    return [report['checkpoint']['summary'], *table, *(f'note: {note}' for note in notes)]


def write_json(report: dict[str, Any], path: Path) -> None:
    """Write the whole report."""
    write_atomically(path, lambda temporary: Path(temporary).write_text(json.dumps(report, indent=2) + '\n'))


def draw_chart(report: dict[str, Any], path: Path) -> None:
    """One bar per number, the spread over draws and the published number on it."""
    from matplotlib.figure import Figure  # slow to import

    rows = report['results']
    figure = Figure(figsize=(8, 1.5 + 0.36 * len(rows)), dpi=110, layout='constrained')
    axes = figure.subplots()
    protocols = list(dict.fromkeys(row['protocol'] for row in rows))
    for place, row in enumerate(rows):
        color = COLORS[protocols.index(row['protocol']) % len(COLORS)]
        axes.barh(place, row['value'], 0.7, color=color, xerr=row['std'], error_kw=dict(ecolor=GRAY, capsize=3))
        text = f'{row["value"]:.1f}' + ('' if row['std'] is None else f' ± {row["std"]:.1f}')
        end = max(row['value'] + (row['std'] or 0), row['published'] or 0)
        axes.text(end + 1.5, place, text, va='center', fontsize=9)
        if row['published'] is not None:
            axes.plot([row['published']] * 2, [place - 0.42, place + 0.42], color='black', linewidth=2)
    if any(row['published'] is not None for row in rows):
        axes.plot([], [], color='black', linewidth=2, label='published')
        axes.legend(loc='lower right', fontsize=9)
    if report['chance'] is not None:
        axes.axvline(report['chance'], color=GRAY, linestyle='--', linewidth=1)
        axes.text(report['chance'] + 0.5, -0.75, 'chance', color=GRAY, fontsize=8, va='center')
    axes.set_yticks(range(len(rows)), [f'{row["protocol"]}, {row["setting"]} ({row["metric"]})' for row in rows])
    axes.set(xlim=(0, 115), ylim=(len(rows) - 0.4, -1.1), xlabel='%')
    axes.set_xticks(range(0, 101, 20))
    axes.spines[['top', 'right']].set_visible(False)
    figure.suptitle(f'{report["checkpoint"]["architecture"]}, {report["checkpoint"]["encoder"]} encoder', fontsize=11)
    axes.set_title(report['data'], fontsize=9, loc='right', wrap=True)
    write_atomically(path, lambda temporary: figure.savefig(temporary, format='png'))
