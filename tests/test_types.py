"""Types are checked; the list of modules that are not yet may only shrink."""

import tomllib
from pathlib import Path

from tests.support.tiny_run import ROOT

MOST_UNCHECKED = 88  # lower it with every module that is mended, never raise it


def unchecked() -> list[str]:
    settings = tomllib.loads(Path(ROOT, 'pyproject.toml').read_text())['tool']['mypy']
    (override,) = (part for part in settings['overrides'] if part.get('ignore_errors'))
    return override['module']


def test_the_list_of_unchecked_modules_only_shrinks():
    modules = unchecked()
    assert len(modules) == len(set(modules)) <= MOST_UNCHECKED
    for module in modules:
        path = ROOT / module.replace('.', '/')
        assert path.with_suffix('.py').is_file() or (path / '__init__.py').is_file(), f'{module} is gone: unlist it'
