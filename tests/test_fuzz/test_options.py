"""``--cfg-options KEY=VALUE``: any text."""

import contextlib
import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mmengine.config import Config

from mocox import cli
from mocox.run.options import prepare_config
from tests.support.tiny_run import write_run
from tests.test_fuzz.cases import fuzz

NAMES = ['model', 'backbone', 'type', 'train_dataloader', 'default_hooks', '0', '_delete_', '_base_', '']
KEYS = st.lists(st.sampled_from(NAMES) | st.text(max_size=4), min_size=1, max_size=4).map('.'.join)
TEXTS = st.text(alphabet='()[]{},=:.\'"\\ -+e1a\n\0', max_size=12) | st.text(max_size=8)
OPTIONS = st.lists(st.builds('{}={}'.format, KEYS, TEXTS) | TEXTS, min_size=1, max_size=3)


@pytest.fixture(scope='module')
def path(tmp_path_factory) -> str:
    return str(write_run(tmp_path_factory.mktemp('run')))


@fuzz(150)
@given(options=OPTIONS)
@example(options=['model=1[,]'])
@example(options=['model=,)'])
@example(options=['model'])
@example(options=['model=', 'model.model.model='])
def test_any_text(path, options):
    """A config, one of the errors that ``run_tool`` explains, or argparse's refusal."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            args = vars(cli.make_parser('').parse_args([path, '--cfg-options', *options]))
        config = prepare_config(args.pop('config'), **args)
    except (SystemExit, *cli.USER_ERRORS):
        return
    assert isinstance(config, Config)
