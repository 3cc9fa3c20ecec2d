"""Unreadable images are counted over all processes, named in a file, and end a run where they are many."""

import ast
import logging
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config

from mocox.engine import UnreadableImagesHook
from mocox.run.build import build_runner
from tests.support.processes import forget_runner, run_processes
from tests.support.tiny_run import write_run

BAD = ('03.png', '1\n1.png', b'2\xff2.png'.decode(errors='surrogateescape'))


def train(folder: Path, name: str = 'run', **hook) -> list[str]:
    config = Config.fromfile(folder / 'tiny.py')
    config.work_dir, config.launcher = str(folder / name), 'none'
    config.train_cfg.max_epochs = 1
    config.default_hooks.unreadable.update(hook)
    try:
        runner = build_runner(config)
        runner.train()
        return Path(runner.log_dir, f'{runner.timestamp}.log').read_text().splitlines()
    finally:
        forget_runner()


@pytest.fixture
def folder(tmp_path) -> Path:
    """24 images of which 3 cannot be read, two with names that no text file can hold."""
    write_run(tmp_path)
    for name in BAD:
        target = tmp_path / 'images' / name
        if not target.exists():
            shutil.move(tmp_path / 'images' / f'{name[0]}{name[2:]}', target)
        target.write_bytes(b'')
    return tmp_path


def test_the_total_is_stated_and_the_names_are_kept(folder):
    log = train(folder)
    (total,) = [line for line in log if 'unreadable images: 3 of 24' in line][-1:]
    path = Path(total.rpartition(' in ')[2])
    assert sorted(Path(ast.literal_eval(line)).name for line in path.read_text().splitlines()) == sorted(BAD)
    assert sum('unreadable image, replaced' in line for line in log) <= 3
    assert not any('images tried' in line for line in log)  # 24 are too few to judge


def test_nothing_unreadable_is_stated_too(tmp_path):
    write_run(tmp_path)
    assert any('unreadable images: 0 of 24' in line for line in train(tmp_path))


def test_many_are_warned_about_and_too_many_end_the_run(folder):
    log = train(folder, min_tried=10, warn_share=0.1, max_share=0.2)
    assert sum('3 of 24 images tried (12.5%) cannot be read; others' in line for line in log) == 1
    with pytest.raises(ValueError, match=r'3 of 24 images tried \(12.5%\) cannot be read, more than the 10% allowed'):
        train(folder, 'second', min_tried=10)
    with pytest.raises(ValueError, match=r'cannot be read, more than the 10% allowed'):
        train(folder, 'third', min_tried=1, interval=1)  # before the epoch ends


@pytest.mark.parametrize('name', ['warn_share', 'max_share'])
def test_shares_lie_between_0_and_1(name):
    with pytest.raises(ValueError, match=f'{name}.*10'):
        UnreadableImagesHook(**{name: 10})


def train_quietly(folder: str) -> list[str]:
    logging.disable(logging.NOTSET)
    return train(Path(folder))


@pytest.mark.dist
@pytest.mark.slow
def test_every_process_sees_a_part_and_the_total_counts_all(folder):
    log = run_processes(train_quietly, 2, str(folder))[0]
    assert any('unreadable images: 3 of 24' in line for line in log)
