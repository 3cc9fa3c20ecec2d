"""The rules that keep a config readable as a row of a paper's table."""

import pytest

from tests.test_configs import layout
from tests.test_configs.shipped import LEAVES, LINEAR, PRETRAINING, load


def test_every_kind_of_config_is_found():
    assert 'configs/mocov3/vit-small.py' in PRETRAINING
    assert 'configs/mocov3/vit-small_linear.py' in LINEAR


@pytest.mark.parametrize('name', LEAVES)
def test_leaf_is_short(name):
    layout.check_length(name)


@pytest.mark.parametrize('name', LEAVES)
def test_docstring_says_what_a_table_row_says(name):
    layout.check_docstring(name)


@pytest.mark.parametrize('name', LEAVES)
def test_one_base_level(name):
    layout.check_bases(name)


@pytest.mark.parametrize('name', LEAVES)
def test_epochs_are_written_once(name):
    schedulers = load(name).param_scheduler
    for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
        assert not {'end', 'T_max'} & set(scheduler), 'MMEngine takes the end from train_cfg.max_epochs'
