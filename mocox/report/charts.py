"""Layout of charts as coordinates of lines and ticks; the page's template draws them as inline SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

WIDTH, HEIGHT = 480, 260
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 14, 36
MAX_POINTS = 240  # of a line; more are averaged
NUM_COLORS, NUM_DASHES = 7, 6


@dataclass
class Line:
    """A curve over x.

    Args:
        name: For the legend and the tooltip.
        x: Ascending.
        y: As many values; a non-finite one is a gap.
        color: Number of the colour; or a colour of its own, such as ``#440154``.
        dash: Number of the line style.
        thin: Drawn in the background.
        dots: Points instead of a line.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int | str = 0
    dash: int = 0
    thin: bool = False
    dots: bool = False


@dataclass
class Level:
    """A horizontal line with a name on it."""

    y: float
    name: str


@dataclass
class Band:
    """An area between two curves over x."""

    x: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass
class Mark:
    """A vertical marker at x, with a text."""

    x: float
    text: str


@dataclass
class Chart:
    """A laid-out chart for the template, in pixels of a viewBox WIDTH x HEIGHT."""

    title: str
    caption: str
    x_label: str
    x_ticks: list[tuple[float, str]] = field(default_factory=list)
    y_ticks: list[tuple[float, str]] = field(default_factory=list)
    paths: list[dict[str, Any]] = field(default_factory=list)
    levels: list[dict[str, Any]] = field(default_factory=list)
    marks: list[dict[str, Any]] = field(default_factory=list)
    areas: list[str] = field(default_factory=list)
    legend: list[dict[str, Any]] = field(default_factory=list)
    hover: dict[str, Any] = field(default_factory=dict)
    summary: str = ''
    width, height, left, right, top, bottom = WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM


def draw_chart(
    title: str,
    caption: str,
    lines: Sequence[Line],
    x_label: str,
    levels: Sequence[Level] = (),
    marks: Sequence[Mark] = (),
    log: bool = False,
    y_range: tuple[float | None, float | None] = (None, None),
    worst: bool = False,
    bands: Sequence[Band] = (),
) -> Chart | None:
    """Lay out a chart; None without a finite point.

    Args:
        title: Heading.
        caption: What to see in the chart.
        lines: The curves.
        x_label: Below the axis.
        levels: Horizontal lines.
        marks: Vertical signs.
        log: Logarithmic y.
        y_range: Fixed ends of the axis; None follows the data.
        worst: Of many points keep the largest, not the mean: for spikes.
        bands: Areas behind the curves, inside the range of x that these have.
    """
    reduced = [(line, *_reduce(line, log, worst)) for line in lines]
    reduced = [item for item in reduced if len(item[1])]
    if not reduced:
        return None
    x_low, x_high = min(x[0] for _, x, _ in reduced), max(x[-1] for _, x, _ in reduced)
    values = np.concatenate([y for _, _, y in reduced])
    values = np.concatenate(
        [values[np.isfinite(values)], [level.y for level in levels]]
        + [np.array([*band.low, *band.high]) for band in bands]
    )
    low, high = _y_limits(values, log, y_range)
    to_x = _scale(x_low, x_high, LEFT, WIDTH - RIGHT)
    to_y = _scale(low, high, HEIGHT - BOTTOM, TOP, log)
    chart = Chart(title, caption, x_label)
    chart.x_ticks = [(to_x(v), _label(v)) for v in _nice_ticks(x_low, x_high, 6)]
    ticks = _log_ticks(low, high) if log else _nice_ticks(low, high, 5)
    chart.y_ticks = [(to_y(v), _label(v)) for v in ticks]
    for line, x, y in reduced:
        points = [(to_x(a), to_y(b)) if math.isfinite(b) else None for a, b in zip(x, y)]
        finite = [point for point in points if point]
        dots = line.dots or len(finite) == 1  # one point is no path that can be seen
        style = dict(color=line.color, dash=line.dash, thin=line.thin, dots=dots)
        chart.paths.append(dict(style, d=_path(points), points=finite if dots else []))
        chart.legend.append(dict(style, name=line.name))
    chart.levels = [dict(y=to_y(level.y), name=level.name) for level in levels]
    for band in bands:
        edge = [*zip(band.x, band.high), *reversed([*zip(band.x, band.low)])]
        chart.areas.append(_path([(to_x(a), to_y(b)) for a, b in edge]) + 'Z')
    inside = [mark for mark in marks if x_low <= mark.x <= x_high]
    chart.marks = [dict(x=to_x(mark.x), text=mark.text) for mark in inside]
    chart.hover = dict(x=[x_low, x_high], label=x_label, lines=[_hover(line, x, y) for line, x, y in reduced])
    chart.summary = '; '.join(f'{line.name}: {_last(y)}' for line, _, y in reduced[:6])
    return chart


def _hover(line: Line, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    values = [float(f'{v:.4g}') if math.isfinite(v) else None for v in y]
    return dict(name=line.name, color=line.color, x=[float(f'{v:.5g}') for v in x], y=values)


def _last(y: np.ndarray) -> str:
    finite = y[np.isfinite(y)]
    return f'last value {finite[-1]:.4g}' if len(finite) else 'nothing finite'


def _reduce(line: Line, log: bool, worst: bool) -> tuple[np.ndarray, np.ndarray]:
    """At most ``MAX_POINTS`` points: the mean (or largest) finite value of equally many, at the last x of them."""
    x, y = np.asarray(line.x, float), np.array(line.y, float)
    y[~np.isfinite(y) | ((y <= 0) & log)] = np.nan
    if not np.isfinite(y).any():
        return x[:0], y[:0]
    if len(x) <= MAX_POINTS:
        return x, y
    bins = np.array_split(np.arange(len(x)), MAX_POINTS)
    pick = np.nanmax if worst else np.nanmean
    merged = [pick(y[rows]) if np.isfinite(y[rows]).any() else np.nan for rows in bins]
    return x[[rows[-1] for rows in bins]], np.array(merged)


def _y_limits(values: np.ndarray, log: bool, y_range: tuple[float | None, float | None]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if log:
        margin = max((high / low) ** 0.05, 1.1)
        return low / margin, high * margin
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    fixed_low, fixed_high = y_range
    low = low - margin if fixed_low is None else min(low, fixed_low)
    high = high + margin if fixed_high is None else max(high, fixed_high)
    return low, high if high > low else low + 1


def _scale(low: float, high: float, start: float, end: float, log: bool = False) -> Any:
    if log:
        low, high = math.log10(low), math.log10(high)
    span = (high - low) or 1.0
    return lambda v: round(start + ((math.log10(v) if log else v) - low) / span * (end - start), 1)


def _nice_ticks(low: float, high: float, count: int) -> list[float]:
    rough = (high - low) / count or 1.0
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1,) if len(powers) > 3 else (1, 2, 5)
    ticks = [m * 10.0**p for p in powers for m in steps if low <= m * 10.0**p <= high]
    return ticks[:: max(1, len(ticks) // 6)] or [low, high]


def _label(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e5:
        return f'{value:.0e}'.replace('e-0', 'e-').replace('e+0', 'e')
    return f'{round(value, 10):.6g}'


def _path(points: list[tuple[float, float] | None]) -> str:
    """SVG path data; a gap where a point is missing."""
    parts, pen = [], 'M'
    for point in points:
        if point is None:
            pen = 'M'
            continue
        parts.append(f'{pen}{point[0]:g} {point[1]:g}')
        pen = 'L'
    return ''.join(parts)
