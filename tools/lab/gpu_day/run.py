"""Starts the worker, and starts it again after a piece that ended it, until nothing is left."""

import os
import subprocess
import sys
import time
from pathlib import Path

from lab.gpu_day import lacks
from lab.gpu_day.stages import STAGES, choose, describe
from mocox.terminal import say

TOOLS = Path(__file__).parents[2]


def run(
    out: str,
    stage: list[str] | None = None,
    list_only: bool = False,
    minutes: float | None = None,
    device: str = 'cuda',
    tiny: bool = False,
    data: str | None = None,
    cores: int | None = None,
) -> bool:
    """Do what is not done yet; see ``tools/gpu_day.py`` for the arguments.

    Returns:
        Whether the worker came to its end.

    Raises:
        ValueError: No such stage, a value out of range, or a folder that cannot be written.
    """
    stages = choose(stage)
    if list_only:
        say(*describe(stages, out).splitlines())
        return True
    if minutes is not None and minutes <= 0:
        raise ValueError(f'--minutes {minutes:g}: must be above 0')
    if tiny and device == 'cuda':
        raise ValueError('--tiny is a rehearsal: give --device cpu with it')
    folder = _make(out)
    cores = cores or (len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1)
    found = lacks.find(device, data, folder, cores)
    say(*(['lacking:', *(f'  {line}' for line in found)] if found else ['nothing is lacking']))
    if len(stages) == len(STAGES):
        say(*describe(stages, out).splitlines())
    until = time.time() + 60 * minutes if minutes else time.time() + 86_400
    settings = [str(folder), device, str(int(tiny)), data or '', str(cores), f'{os.getpid()}-{time.time():.0f}']
    return _work([*settings, f'{until:.0f}', *(one.name for one in stages)], folder)


def _make(out: str) -> Path:
    folder = Path(out).resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'lock').touch()
    except OSError as error:
        raise ValueError(f'{out}: cannot be written ({error.strerror})') from error
    return folder


def _work(arguments: list[str], folder: Path) -> bool:
    """Each start gets at least one piece further, or it is the last."""
    paths = [str(TOOLS), str(TOOLS.parent), os.environ.get('PYTHONPATH', '')]
    environment = os.environ | dict(PYTHONPATH=os.pathsep.join(filter(None, paths)), PYTHONUNBUFFERED='1')
    environment.setdefault('PYTORCH_CUDA_ALLOC_CONF', 'expandable_segments:True')  # stages of very unlike sizes
    while True:
        before = _size(folder)
        code = subprocess.run([sys.executable, '-m', 'lab.gpu_day.worker', *arguments], env=environment).returncode
        if code == 0:
            say(f'written: {folder}/report.md')
            return True
        if _size(folder) == before:
            say(f'the worker ended with code {code} and did nothing')
            return False
        say('going on in a new process')


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob('*.jsonl'))
