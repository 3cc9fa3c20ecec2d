"""One setting of a recipe after the other, each with several values, all else as the recipe has it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from lab.benchmark.mocox_contender import read_config
from lab.quality.contestants import mocox
from lab.quality.run import Contest, run
from lab.quality.sweep_figure import draw
from lab.quality.table import read_results, with_spread
from mocox.augment.recipe import View
from mocox.recipe import argument
from mocox.terminal import say

VIEWS = ('data_preprocessor.views.0', 'data_preprocessor.views.1')
JITTERED = ('brightness', 'contrast')
CROPS = 'train_dataloader.dataset.crops.scale'
# A setting: where it stands in a config, as --cfg-options names it, and what is tried. No place: the batch.
AXES: dict[str, tuple[tuple[str, ...], tuple[Any, ...]]] = {
    'crops from': ((CROPS,), ((0.08, 1.0), (0.2, 1.0), (0.4, 1.0))),
    'batch': ((), (64, 128, 256, 512)),
    'temperature': (('model.head.temperature',), (0.05, 0.1, 0.2, 0.5, 1.0)),
    'momentum': (('model.base_momentum',), (0.0, 0.9, 0.99, 0.996, 0.999)),
    'trust coefficient': (('optim_wrapper.optimizer.trust_coefficient',), (0.001, 0.02)),
    'width': (('model.backbone.base_channels', 'model.backbone.stem_channels'), (8, 16)),
    'flips': (tuple(f'{view}.flip_prob' for view in VIEWS), (0.0, 0.5)),
    'jitter': (tuple(f'{view}.color_jitter.{name}' for view in VIEWS for name in JITTERED), (0.0, 0.4, 0.8)),
    'blur': (tuple(f'{view}.blur_prob' for view in VIEWS), (0.0, 0.5)),
    'grid': (('model.backbone.grid',), (1, 2)),
    'queue': (('model.queue_len',), (1024, 4096, 7936)),
    'both directions': (('model.symmetric',), (False, True)),
    'images of a BatchNorm': (('model.backbone.norm_cfg.group_size',), (32, 128)),
    'frozen patches': (('model.backbone.stop_grad_conv1',), (False, True)),
}
RECIPE = 'recipe'  # folder of the runs with the recipe's own values


@dataclass(frozen=True)
class Point:
    """A value of a setting.

    Args:
        axis: Name of the setting.
        value: In words.
        folder: Of its results.
        contest: With this value.
        is_recipe: Whether the recipe has it.
    """

    axis: str
    value: str
    folder: str
    contest: Contest
    is_recipe: bool


def sweep(contest: Contest, axes: Sequence[str], seeds: Sequence[int], out: Path) -> str:
    """Train and judge the recipe ``contest.config`` with every value of the settings named; what is there stays.

    Writes ``sweep.md`` and ``sweep.png`` into ``out`` after every run, and a folder for each value.

    Raises:
        ValueError: No such setting.
    """
    if unknown := [name for name in axes if name not in AXES]:
        raise ValueError(f'--sweep {" ".join(map(repr, unknown))}: known are {", ".join(map(repr, AXES))}')
    config = read_config(contest.config, options=contest.options)
    points = [point for name in axes for point in points_of(name, contest, config)]
    name = f'mocox {Path(contest.config).parent.name.removeprefix("moco")}'
    table = ''
    for seed in seeds:
        for point in points:
            builder = mocox(contest.config, point.contest.options)
            run(point.contest, name, builder, seed, out / point.folder)
            found = [(point, results) for point in points if (results := read_results(out / point.folder))]
            table = as_rows(found)
            (out / 'sweep.md').write_text(table + '\n')
            draw(found, out / 'sweep.png')
    say(*table.splitlines())
    return table


def points_of(name: str, contest: Contest, config: Config) -> list[Point]:
    """The values of a setting; those that the recipe has share one folder."""
    keys, values = AXES[name]
    own = contest.batch if not keys else _value(config, keys[0])
    points = []
    for value in values:
        options = contest.options | dict.fromkeys(keys, value)
        changed = replace(contest, options=options) if keys else replace(contest, batch=value)
        same = own == value or (isinstance(value, tuple) and tuple(own or ()) == value)
        words = f'{value[0]:g}' if isinstance(value, tuple) else str(value)
        folder = RECIPE if same else f'{name.replace(" ", "-")}={words}'
        points.append(Point(name, words, folder, contest if same else changed, same))
    return points


def _value(config: Any, key: str) -> Any:
    """The recipe's own value, that of its class where the config says none; None where neither tells."""
    *above, name = key.split('.')
    for part in above:
        config = config[int(part)] if isinstance(config, list | tuple) else config.get(part)
        if config is None:
            raise ValueError(f'--sweep: the recipe has no {".".join(above)} to set {name} of: leave that setting out')
    if above[-2:-1] == ['views']:
        return config.get(name, getattr(View, name))
    return argument(config, name)


def as_rows(found: Sequence[tuple[Point, list[dict[str, Any]]]]) -> str:
    """Markdown: a row for each value, percent with the spread of the seeds; the recipe's own value in bold."""
    lines = ['| setting | value | seeds | k-NN | linear | loss | CPU seconds |', '|---|---|---|---|---|---|---|']
    for point, results in found:
        last = [result['points'][-1] for result in results]
        scores = [with_spread([one[key] for one in last]) for key in ('knn', 'linear')]
        seconds = sum(one['seconds'] for one in last) / len(last)
        loss = sum(result['loss'] for result in results) / len(results)
        value = f'**{point.value}**' if point.is_recipe else point.value
        cells = [point.axis, value, str(len(results)), *scores, f'{loss:.2f}', f'{seconds:.0f}']
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)
