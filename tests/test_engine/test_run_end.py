"""One training in a work dir at a time."""

import os
import re
from pathlib import Path

import pytest

from mocox.engine import run_end
from mocox.engine.run_end import LOCK, lock_work_dir, unlock_work_dir
from mocox.run.build import build_runner
from mocox.run.options import prepare_config
from tests.support.processes import forget_runner, warm_context
from tests.support.tiny_run import write_run


def _hold(folder: Path, ready: object, may_end: object) -> None:
    lock_work_dir(folder)
    ready.set()
    may_end.wait()
    os._exit(0)  # as one that is killed: it gives nothing back


def held_below(folder: Path) -> list[Path]:
    """Locks of this process, whose other tests may have left some elsewhere."""
    return [path for path in run_end._held if path.is_relative_to(folder)]


@pytest.fixture
def other(tmp_path):
    """A process that trains in ``tmp_path / 'run'``; returns the event that ends it."""
    context = warm_context()
    ready, may_end = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path / 'run', ready, may_end))
    process.start()
    assert ready.wait(60)
    yield process, may_end
    may_end.set()
    process.join()
    unlock_work_dir(tmp_path / 'run')


def test_a_second_training_is_refused_and_touches_nothing(tmp_path, other):
    process, may_end = other
    config = prepare_config(str(write_run(tmp_path)), work_dir=str(tmp_path / 'run'))
    with pytest.raises(ValueError, match=re.escape(f'process {process.pid} on ')):
        build_runner(config)
    assert os.listdir(tmp_path / 'run') == [LOCK]
    may_end.set()
    process.join()
    try:
        runner = build_runner(config)
        assert held_below(tmp_path)
        runner.train()
        assert not held_below(tmp_path)
    finally:
        forget_runner()


def test_a_config_that_cannot_be_built_gives_the_folder_back(tmp_path):
    config = prepare_config(str(write_run(tmp_path)), work_dir=str(tmp_path / 'run'))
    config.model.backbone.type = 'Unknown'
    with pytest.raises(KeyError):
        build_runner(config)
    forget_runner()
    assert not held_below(tmp_path)


def test_a_test_leaves_the_work_dir_to_a_training(tmp_path, other):
    config = prepare_config(str(write_run(tmp_path)), work_dir=str(tmp_path / 'run'))
    try:
        build_runner(config, for_training=False)
    finally:
        forget_runner()
    assert not held_below(tmp_path)


def test_a_process_that_is_just_ending_is_waited_for(tmp_path, other):
    _, may_end = other
    may_end.set()
    lock_work_dir(tmp_path / 'run', patience_s=30.0)


def test_a_name_that_leads_elsewhere_is_not_followed(tmp_path):
    """The lock is emptied and written: through a link that would be another file."""
    other = tmp_path / 'other'
    other.write_text('mine')
    (tmp_path / LOCK).symlink_to(other)
    with pytest.raises((OSError, ValueError)):
        lock_work_dir(tmp_path)
    assert other.read_text() == 'mine'


def test_without_locks_a_warning_says_so(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(run_end, '_try_lock', lambda descriptor: 37)  # ENOLCK of a network disk
    lock_work_dir(tmp_path)
    said = capfd.readouterr()
    assert 'cannot be locked' in said.out + said.err
    unlock_work_dir(tmp_path)


@pytest.mark.parametrize(
    'change',
    [
        dict(optim_wrapper=dict(optimizer=dict(lr=-1.0))),  # refused before any hook is called
        dict(model=dict(init_cfg=dict(type='Pretrained', checkpoint='missing.pth'))),  # after the hooks have begun
    ],
)
def test_a_training_that_fails_before_its_loop_gives_the_folder_back(tmp_path, change):
    config = prepare_config(str(write_run(tmp_path)), work_dir=str(tmp_path / 'run'))
    config.merge_from_dict(change)
    try:
        runner = build_runner(config)
        assert held_below(tmp_path)
        with pytest.raises((ValueError, OSError)):
            runner.train()
        assert not held_below(tmp_path)
        assert not hasattr(runner, 'endings')
    finally:
        forget_runner()
