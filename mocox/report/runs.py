"""Read the files of a run: scalars, events, config, environment, warnings; nothing in them is executed."""

import json
import math
import re
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mocox.checkpoint.provenance import parse_config
from mocox.recipe import Recipe
from mocox.report.scalars import MAX_PLACE, Series, collect, place_of, read_json_lines

LOG_LINE = re.compile(r'\d{4}/\d\d/\d\d (\d\d:\d\d:\d\d) - \w+ - (WARNING|ERROR) - (.*)')
TIMESTAMP = re.compile(r'\d{8}_\d{6}')
LOGGED = ('python', 'torch', 'mmengine', 'processes', 'device')
MAX_WARNINGS = 50
PARTS_OF_DATA = ('train', 'images')  # folders whose name says nothing of what they hold
AUTO = 'auto'  # name of every config of `mocox pretrain`
# Errors of arithmetic on values of an unexpected type.
ODD = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass
class Run:
    """One work dir.

    Args:
        name: For legends.
        folder: The work dir.
        config: Its config, literals only; empty if missing.
        scalars: By name as in MMEngine's log, without ``train/``.
        metrics: Validation metrics, over epochs.
        events: Events of the monitors, in order.
        environment: Machine and versions.
        warnings: Lines of the log.
        epochs: The epoch, counted from 1, at each line of the log.
        world_size: Number of processes.
        recipe_name: Name of the config file; empty if unknown.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    scalars: dict[str, Series]
    metrics: dict[str, Series]
    events: list[dict[str, Any]]
    environment: dict[str, Any]
    warnings: list[str]
    epochs: Series
    world_size: int = 1
    recipe_name: str = ''

    @property
    def recipe(self) -> Recipe:
        return Recipe(self.config, self.world_size)

    @property
    def num_iters(self) -> int:
        """Iterations done."""
        return max((series.iters[-1] for series in self.scalars.values()), default=0)

    @property
    def title(self) -> str:
        """Recipe and data, such as ``vit-small_custom on photos``; the folder where neither is known."""
        data = str(self.recipe.dataset.get('data_root') or '')
        *_, above, name = '', '', *(part for part in Path(data).parts if part != '/')
        on = f'{above}/{name}' if above and name in PARTS_OF_DATA else name or data
        recipe = self.recipe_name if self.recipe_name != AUTO else self.recipe.network
        return f'{recipe or self.name} on {on}' if on else recipe or self.name

    @property
    def epoch(self) -> int:
        return int(self.epochs.last) if len(self.epochs) else 0

    @property
    def max_epochs(self) -> int | None:
        return self.recipe.epochs

    @cached_property  # asked for at every point of every curve
    def epoch_length(self) -> float:
        """Iterations of an epoch, as far as the log tells: a line of epoch e stands at most e epochs from the start."""
        pairs = zip(self.epochs.iters, self.epochs.values)
        return max((done / epoch for done, epoch in pairs if epoch), default=0) or 1

    @property
    def finished(self) -> bool:
        total = (self.max_epochs or 0) * self.epoch_length
        return bool(total) and self.num_iters >= 0.999 * total

    @property
    def goes_on(self) -> bool:
        """Not finished, and its log has grown in the last ten minutes."""
        times = [path.stat().st_mtime for path in self.folder.glob('*/vis_data/scalars.json')]
        return not self.finished and time.time() - max(times, default=0) < 600

    @property
    def batch_size(self) -> int | None:
        """Images of one step in all processes."""
        return self.recipe.batch_size if 'batch_size' in self.recipe.loader else None

    @property
    def checkpoint(self) -> Path | None:
        """The newest checkpoint, also if the folder was moved."""
        saved = [path for path in self.folder.glob('*_*.pth') if path.stem.rpartition('_')[2].isdigit()]
        return max(saved, key=lambda path: int(path.stem.rpartition('_')[2]), default=None)


SCALARS = 'vis_data/scalars.json'


def read_run(folder: str | Path, name: str | None = None) -> Run:
    """Read a work dir; a resumed run, whose log is in several folders, counts as one.

    Raises:
        FileNotFoundError: No such folder, or no log of a training in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f'there is no work dir {folder}')
    parts = sorted(path for path in folder.iterdir() if TIMESTAMP.fullmatch(path.name))
    parts = [path for path in parts if (path / SCALARS).is_file()]
    if not parts:
        inside = sorted({path.parents[2].relative_to(folder).as_posix() for path in folder.glob(f'*/*/{SCALARS}')})
        if inside:
            listed = ', '.join(inside[:8]) + (f', ... ({len(inside) - 8} more)' if len(inside) > 8 else '')
            raise FileNotFoundError(f'{folder} is not a run but holds {len(inside)}: {listed}. Pass some of them')
        raise FileNotFoundError(
            f'{folder} has no log: no TIMESTAMP/vis_data/scalars.json in it. Pass the --work-dir of a training that '
            'has done its first steps'
        )
    lines: list[dict] = []
    events: list[dict] = []
    warnings = []
    for part in parts:
        new = read_json_lines(part / 'vis_data' / 'scalars.json')
        start = min((line['iter'] for line in new if 'iter' in line), default=math.inf)
        lines = [line for line in lines if place_of(line) < start] + new  # resumed before the last logged step
        events = [event for event in events if event.get('iter', 0) < start]
        events += read_json_lines(part / 'vis_data' / 'events.jsonl')
        warnings += _warnings_in(part / f'{part.name}.log')
    scalars, metrics, epochs = collect(lines)
    config = _read_config(folder, parts[-1])
    environment = _environment(parts[-1])
    run = Run(name or folder.name, folder, config, scalars, metrics, events, environment, warnings, epochs)
    run.recipe_name = min((path.stem for path in folder.glob('*.py')), default='')
    run.world_size = _num_processes(environment, parts[-1])
    try:
        _check_config(run)
        _add_levels(run)
    except ODD as error:
        run.config = {}
        run.warnings.append(f'the config of {parts[-1]} is not used: {type(error).__name__}: {error!s:.200}')
    return run


def _check_config(run: Run) -> None:
    """Check the numbers of an untrusted config that the page computes with."""
    recipe = run.recipe
    for name, number in (('max_epochs', recipe.epochs), ('batch_size', run.batch_size)):
        if number is not None and not (type(number) is int and 0 < number <= MAX_PLACE):
            raise ValueError(f'{name}={number!r:.80} must be a whole number above 0')
    chance, floor = recipe.levels or (1.0, 0.0)
    if not (math.isfinite(chance) and math.isfinite(floor) and chance != floor):
        raise ValueError(f'the levels of its loss are {chance} and {floor}')


def name_runs(folders: list[str | Path]) -> list[str]:
    """Short distinct names: as many last parts of the paths as it takes."""
    paths = [Path(folder).resolve() for folder in folders]
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = ['/'.join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f'{path.name} ({number})' for number, path in enumerate(paths, start=1)]


def _read_config(folder: Path, part: Path) -> dict[str, Any]:
    path = part / 'vis_data' / 'config.py'
    if not path.is_file():
        path = next(iter(sorted(folder.glob('*.py'))), path)
    if not path.is_file():
        return {}
    config = parse_config(path.read_text(encoding='utf-8', errors='replace'))
    named = sorted(folder.glob('*.py'))
    return dict(config, recipe_name=named[0].stem) if named else config


def _environment(part: Path) -> dict[str, Any]:
    """The environment that ReportHook noted, else that of MMEngine's log."""
    path = part / 'vis_data' / 'environment.json'
    if path.is_file():
        return _read_environment(path)
    log = part / f'{part.name}.log'
    text = log.read_text(encoding='utf-8', errors='replace') if log.is_file() else ''
    names = {
        'Python': 'python',
        'PyTorch': 'torch',
        'MMEngine': 'mmengine',
        'GPU number': 'processes',
        'GPU 0': 'device',
    }
    found = {}
    for line in text.splitlines():
        key, _, value = line.strip().partition(': ')
        if key in names and names[key] not in found:
            found[names[key]] = value
    return found


def _read_environment(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding='utf-8', errors='replace'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is damaged: {error}') from None
    plain = isinstance(found, dict) and all(isinstance(value, str | int | float | None) for value in found.values())
    if not plain:
        raise ValueError(f'{path} holds no facts about a machine, but {found!r:.80}')
    return found


def _num_processes(environment: dict[str, Any], part: Path) -> int:
    told = environment.get('processes', 1)
    if not re.fullmatch(r'[1-9]\d{0,6}', str(told)):
        raise ValueError(f'{part}: the run says that it had {told!r:.80} processes')
    return int(told)


def _warnings_in(log: Path) -> list[str]:
    if not log.is_file():
        return []
    text = log.read_text(encoding='utf-8', errors='replace')
    found = [f'{match[1]} {match[3]}' for match in map(LOG_LINE.match, text.splitlines()) if match]
    more = len(found) - MAX_WARNINGS
    return found if more <= 0 else [*found[:MAX_WARNINGS], f'and {more} more in {log.name}']


def _add_levels(run: Run) -> None:
    """Chance and floor of a log that lacks them, from the config; progress; speed."""
    loss, batch = run.scalars.get('loss'), run.batch_size
    if loss and batch and 'chance' not in run.scalars and (levels := run.recipe.levels):
        chance, floor = levels
        for name, level in zip(('chance', 'floor'), levels):
            run.scalars[name] = Series(loss.iters, [level] * len(loss))
        run.scalars['progress'] = Series(loss.iters, [100 * (chance - v) / (chance - floor) for v in loss.values])
    times = run.scalars.get('time')
    if times and batch and 'images_per_second' not in run.scalars:
        run.scalars['images_per_second'] = Series(times.iters, [batch / max(v, 1e-9) for v in times.values])
    waits = run.scalars.get('data_time')
    if times and waits and 'data_wait' not in run.scalars and len(times) == len(waits):
        shares = [100 * wait / max(total, 1e-9) for wait, total in zip(waits.values, times.values)]
        run.scalars['data_wait'] = Series(times.iters, shares)
