"""The rules that keep a config readable as a row of a paper's table."""

import ast
import re
from pathlib import Path

from tests.test_configs.shipped import ROOT

MAX_LINES = 25


def check_length(name: str) -> None:
    source = (ROOT / name).read_text()
    docstring = ast.parse(source).body[0]
    code = source.splitlines()[docstring.end_lineno :]
    assert len([line for line in code if line.strip()]) <= MAX_LINES


def check_docstring(name: str) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / name).read_text()))
    assert docstring is not None
    for word in ('Paper:|Source:', 'Published:', 'Hardware:', 'Launch'):
        assert re.search(rf'^({word})', docstring, re.MULTILINE), f'{name}: the docstring has no line "{word}"'
    assert name in docstring, f'{name}: the launch command names another config'
    published = ' '.join(docstring[docstring.index('Published:') : docstring.index('Hardware:')].split())
    assert 'not re-run here' in published or 'no number' in published, f'{name}: whose number is it?'


def check_bases(name: str) -> None:
    """A leaf inherits from ``_base_`` files only, and those inherit from nothing."""
    for base in _bases(ROOT / name):
        assert '_base_' in base.parts, f'{name} inherits from {base}, which is not below configs/_base_'
        assert not _bases(base), f'{base} has a base of its own'


def _bases(path: Path) -> list[Path]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == '_base_':
            value = ast.literal_eval(node.value)
            return [(path.parent / base).resolve() for base in ([value] if isinstance(value, str) else value)]
    return []
