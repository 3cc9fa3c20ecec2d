"""The rules that keep a config readable as a row of a paper's table."""

import ast
import re

import pytest

from tests.test_configs.shipped import LEAVES, LINEAR, PRETRAINING, ROOT, load

MAX_LINES = 25


def test_every_kind_of_config_is_found():
    assert 'configs/mocov3/vit-small.py' in PRETRAINING
    assert 'configs/mocov3/vit-small_linear.py' in LINEAR


@pytest.mark.parametrize('name', LEAVES)
def test_leaf_is_short(name):
    source = (ROOT / name).read_text()
    docstring = ast.parse(source).body[0]
    code = source.splitlines()[docstring.end_lineno :]
    assert len([line for line in code if line.strip()]) <= MAX_LINES


@pytest.mark.parametrize('name', LEAVES)
def test_docstring_says_what_a_table_row_says(name):
    docstring = ast.get_docstring(ast.parse((ROOT / name).read_text()))
    assert docstring is not None
    for word in ('Paper:|Source:', 'Published:', 'Hardware:', 'Launch'):
        assert re.search(rf'^({word})', docstring, re.MULTILINE), f'{name}: the docstring has no line "{word}"'
    assert name in docstring, f'{name}: the launch command names another config'
    published = ' '.join(docstring[docstring.index('Published:') : docstring.index('Hardware:')].split())
    assert 'not re-run here' in published or 'no number' in published, f'{name}: whose number is it?'


@pytest.mark.parametrize('name', LEAVES)
def test_one_base_level(name):
    """A leaf inherits from ``_base_`` files only, and those inherit from nothing."""
    for base in _bases(ROOT / name):
        assert '_base_' in base.parts, f'{name} inherits from {base}, which is not below configs/_base_'
        assert not _bases(base), f'{base} has a base of its own'


@pytest.mark.parametrize('name', LEAVES)
def test_epochs_are_written_once(name):
    schedulers = load(name).param_scheduler
    for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
        assert not {'end', 'T_max'} & set(scheduler), 'MMEngine takes the end from train_cfg.max_epochs'


def _bases(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == '_base_':
            value = ast.literal_eval(node.value)
            return [(path.parent / base).resolve() for base in ([value] if isinstance(value, str) else value)]
    return []
