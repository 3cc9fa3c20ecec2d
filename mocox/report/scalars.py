"""The scalars of a run over its iterations, from the lines of its log."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OFFLINE = 'knn_offline'
PLACES = ('iter', 'step', 'epoch')
MAX_PLACE = 10**15
HUGE = 1e100  # values above count as not finite: no axis reaches them
EVENT: dict[str, Any] = dict(kind=str, state=str | None, message=str, evidence=dict, causes=list)


@dataclass
class Series:
    """A scalar over iterations, counted from 1."""

    iters: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def last(self) -> float:
        return self.values[-1]

    def recent(self, num: int = 10) -> float:
        """Mean of the last values."""
        return sum(self.values[-num:]) / len(self.values[-num:])


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines; a last line that is still being written is left out.

    Raises:
        ValueError: A line before it is damaged, or a value in it is of another type than what mocox writes there.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding='utf-8', errors='replace').split('\n')
    last = max((number for number, line in enumerate(lines, start=1) if line.strip()), default=0)
    found = []
    for number, line in enumerate(lines[:last], start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:  # also numbers of too many digits, and deeply nested lists
            if number < last:
                raise ValueError(f'{path}, line {number} is damaged: {error}') from None
            continue
        if not isinstance(entry, dict):
            continue
        for name, value in entry.items():
            if not _is_expected(name, value):
                raise ValueError(f'{path}, line {number}: {name}={value!r:.80} is not a value that a training writes')
        found.append(entry)
    return found


def _is_expected(name: str, value: object) -> bool:
    """True if a log can hold this value under this name. Only a loss, a float, may be large."""
    if name in PLACES:
        return type(value) is int and 0 <= value <= MAX_PLACE
    if name in EVENT:
        return isinstance(value, EVENT[name])
    return not isinstance(value, int) or abs(value) <= MAX_PLACE


def place_of(line: dict[str, Any]) -> int:
    """The iteration of a line of the log; 0 for a validation's, whose step is an epoch."""
    return line.get('iter', line.get('step', 0) if OFFLINE in line else 0)


def collect(lines: list[dict[str, Any]]) -> tuple[dict[str, Series], dict[str, Series], Series]:
    """Scalars of training over iterations, metrics of validation over epochs, and the epoch of each iteration."""
    scalars: dict[str, Series] = {}
    metrics: dict[str, Series] = {}
    epochs = Series()
    measured = [line for line in lines if OFFLINE in line and 'iter' not in line]
    for line in lines:
        target, place = (scalars, line['iter']) if 'iter' in line else (metrics, line.get('step', 0))
        if 'iter' in line:
            epochs.iters.append(place)
            epochs.values.append(line.get('epoch', 0))
        for key, value in line.items():
            if key in ('iter', 'step', 'epoch') or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            series = target.setdefault(key, Series())
            series.iters.append(place)
            series.values.append(float(value) if abs(value) < HUGE else math.nan)
    if measured:  # other lines repeat the last value until the next
        scalars[OFFLINE] = Series([place_of(line) for line in measured], [float(line[OFFLINE]) for line in measured])
    return scalars, {name: series for name, series in metrics.items() if name not in scalars}, epochs
