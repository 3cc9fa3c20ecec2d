"""A panel for each setting: k-NN and linear accuracy by its value."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.figure import Figure

STYLES = {'knn': ('k-NN', '#0072b2', 'o', -0.03), 'linear': ('linear', '#d55e00', 's', 0.03)}
COLUMNS = 4


def draw(found: Sequence[tuple[Any, list[dict[str, Any]]]], path: Path) -> Figure:
    """Draw the picture and write it; bars are the standard deviation between seeds, where there are several.

    Args:
        found: See :func:`lab.quality.sweep.as_rows`.
        path: Of the file.
    """
    axes = list(dict.fromkeys(point.axis for point, _ in found))
    rows, columns = -(-len(axes) // COLUMNS), min(COLUMNS, len(axes))
    figure = Figure(figsize=(2.9 * columns, 2.6 * rows), layout='constrained')
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
    for axis, panel in zip(axes, panels, strict=False):
        points = [(point, results) for point, results in found if point.axis == axis]
        for key, (label, color, marker, shift) in STYLES.items():
            scores = [[result['points'][-1][key] for result in results] for _, results in points]
            spread = [stdev(values) if len(values) > 1 else 0.0 for values in scores]
            places = [place + shift for place in range(len(points))]
            panel.errorbar(places, [*map(mean, scores)], spread, color=color, marker=marker, capsize=3, label=label)
        labels = [f'{point.value}\n(recipe)' if point.is_recipe else point.value for point, _ in points]
        panel.set_xticks(range(len(points)), labels)
        panel.margins(x=0.15)
        panel.set_title(axis)
        panel.grid(axis='y', alpha=0.3)
    for panel in panels:
        panel.set_axis_off()
    figure.axes[0].set_ylabel('percent')
    figure.axes[0].legend(frameon=False, fontsize='small')
    figure.savefig(path, dpi=110)
    return figure
