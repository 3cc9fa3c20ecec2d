"""Results as a table: a row for each contestant, means over seeds and how far the seeds lie apart."""

import json
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

HEADINGS = ('contestant', 'seeds', 'images', 'CPU seconds', 'k-NN', 'linear', '1 % of labels', 'images per CPU second')


def read_results(out: Path) -> list[dict[str, Any]]:
    """All results in a folder, in the order of their names."""
    return [json.loads(path.read_text()) for path in sorted(out.glob('*.json'))]


def as_table(results: list[dict[str, Any]]) -> str:
    """Markdown; the last point of each run, the best linear accuracy first, failures with their errors below."""
    runs, failures = defaultdict(list), {}
    for result in results:
        if 'error' in result:
            failures[result['name']] = result['error']
        else:
            runs[result['name']].append(result)
    rows = sorted((_row(name, of) for name, of in runs.items()), key=lambda row: row[5], reverse=True)
    lines = ['| ' + ' | '.join(HEADINGS) + ' |', '|' + '---|' * len(HEADINGS)]
    lines += ['| ' + ' | '.join(row) + ' |' for row in rows]
    return '\n'.join(lines + [f'\n{name} does not run: {error}' for name, error in failures.items()])


def _row(name: str, runs: list[dict[str, Any]]) -> list[str]:
    last = [run['points'][-1] for run in runs]
    images, seconds = (mean(point[key] for point in last) for key in ('images', 'seconds'))
    few = [run['finetuned'] for run in runs if run.get('finetuned') is not None]
    scores = [[point[key] for point in last] for key in ('knn', 'linear')]
    trains = images > 0  # some references do not
    return [
        name,
        str(len(runs)),
        f'{images:,.0f}' if trains else '-',
        f'{seconds:.0f}' if trains else '-',
        *(with_spread(values) for values in [*scores, few]),
        f'{images / seconds:.0f}' if trains else '-',
    ]


def with_spread(values: list[float]) -> str:
    """The mean and the standard deviation between seeds, where there are several."""
    if not values:
        return '-'
    return f'{mean(values):.1f}' + (f' ± {stdev(values):.1f}' if len(values) > 1 else '')
