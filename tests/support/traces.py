"""The recorded traces, each replayed once for all tests that look at the result."""

import functools
import json
import shutil
from pathlib import Path
from typing import Any

from mocox.reference import Case, replay
from mocox.reference.recorder import ReplayResult
from tests.support.processes import run_processes

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'
CASES = sorted(p.name for p in GOLDEN.iterdir())
ONE_PROCESS = [name for name in CASES if not name.endswith('2proc')]
VARIANTS = ['fast_moco', 'finetune', 'moby', 'symmetric_v2']  # recorded in float64 alone


def replay_here(folder: Path, precision: str = 'float64') -> tuple[Case, ReplayResult]:
    case = Case.read(folder, precision)
    return case, replay(case)


def replayed(name: str, precision: str = 'float64') -> tuple[Case, ReplayResult]:
    """A trace and its replay; one of two processes in processes that are there already."""
    return _replayed(name, precision)  # one key, whether the precision is given or not


@functools.cache
def _replayed(name: str, precision: str) -> tuple[Case, ReplayResult]:
    if name in ONE_PROCESS:
        return replay_here(GOLDEN / name, precision)
    return run_processes(replay_here, 2, GOLDEN / name, precision)[0]  # statistics were recorded in the first


def copy_case(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / name, folder / 'case'))


def change_case(folder: Path, section: str | None, key: str, value: Any) -> None:
    path = folder / 'case.json'
    spec = json.loads(path.read_text())
    (spec[section] if section else spec)[key] = value
    path.write_text(json.dumps(spec))
