"""Real runs of the tools: one process and two, straight and resumed, full and mixed precision."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from tests.support.processes import forget_runner
from tests.support.tiny_run import ROOT, run_script, run_tool, write_run


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The images and the config of the tiny run."""
    folder = tmp_path_factory.mktemp('run')
    write_run(folder)
    return folder


@pytest.fixture(scope='module')
def straight(folder):
    """The work dir of an uninterrupted run."""
    run_tool('train.py', folder / 'tiny.py', '--work-dir', folder / 'straight')
    forget_runner()
    return folder / 'straight'


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def assert_same_state(one: dict, other: dict, **tolerance) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], msg=lambda text, name=name: f'{name}: {text}', **tolerance)


def losses(work_dir: Path) -> list[float]:
    """The training loss of every step."""
    lines = next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()
    return [entry['loss'] for entry in map(json.loads, lines) if 'loss' in entry]


def test_a_run_learns_and_leaves_its_files(straight):
    before, after = (read(straight / f'epoch_{epoch}.pth') for epoch in (2, 4))
    assert list(read(straight / 'epoch_4.pth')['state_dict']) == list(after['state_dict'])
    moved = {
        name.partition('.')[0]
        for name, tensor in after['state_dict'].items()
        if not torch.equal(tensor, before['state_dict'][name])
    }
    assert moved == {'backbone', 'neck', 'head', 'momentum_encoder'}
    assert (straight / 'last_checkpoint').read_text() == str(straight / 'epoch_4.pth')
    assert (straight / 'tiny.py').is_file()
    assert len(losses(straight)) == 12


def test_the_same_seed_gives_the_same_run(folder, straight):
    run_tool('train.py', folder / 'tiny.py', '--work-dir', folder / 'again')
    assert losses(folder / 'again') == losses(straight)
    again, first = (read(path / 'epoch_4.pth') for path in (folder / 'again', straight))
    assert_same_state(again['state_dict'], first['state_dict'], rtol=0, atol=0)


def test_another_seed_gives_another_run(folder, straight):
    run_tool('train.py', folder / 'tiny.py', '--work-dir', folder / 'other', '--cfg-options', 'randomness.seed=1')
    assert losses(folder / 'other') != losses(straight)


@pytest.mark.parametrize('how', ['file', 'latest'])
def test_a_resumed_run_equals_the_straight_one(folder, straight, how):
    work_dir = folder / f'resumed_{how}'
    work_dir.mkdir()
    if how == 'latest':
        shutil.copy(straight / 'epoch_2.pth', work_dir)
        (work_dir / 'last_checkpoint').write_text('/where/the/folder/was/epoch_2.pth')
    checkpoint = [straight / 'epoch_2.pth'] if how == 'file' else []
    run_tool('train.py', folder / 'tiny.py', '--work-dir', work_dir, '--resume', *checkpoint)
    assert losses(work_dir) == losses(straight)[6:]
    resumed, expected = (read(path / 'epoch_4.pth') for path in (work_dir, straight))
    assert_same_state(resumed['state_dict'], expected['state_dict'], rtol=0, atol=0)
    assert resumed['optimizer']['param_groups'] == expected['optimizer']['param_groups']
    assert resumed['param_schedulers'] == expected['param_schedulers']


def test_mixed_precision_differs_only_by_rounding(folder, straight):
    run_tool('train.py', folder / 'tiny.py', '--work-dir', folder / 'amp', '--amp')
    amp, full = losses(folder / 'amp'), losses(straight)
    assert amp[0] != full[0]
    # The loss is 4 T times a cross entropy of cosines / T, so it moves by at most 8 times what they do; and 8 bits
    # keep a cosine to about 0.01.
    assert amp[0] == pytest.approx(full[0], abs=0.1)
    assert 'loss_scaler' not in read(folder / 'amp' / 'epoch_4.pth')['optimizer']


@pytest.mark.dist
def test_two_processes_equal_one_with_the_doubled_batch(folder, straight):
    result = run_script(
        'dist_train.sh',
        folder / 'tiny.py',
        2,
        '--work-dir',
        folder / 'two',
        '--cfg-options',
        'train_dataloader.batch_size=4',
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr
    two, one = (read(path / 'epoch_4.pth')['state_dict'] for path in (folder / 'two', straight))
    assert_same_state(two, one, rtol=1e-4, atol=1e-5)
    assert losses(folder / 'two') == pytest.approx(losses(straight), rel=1e-4)


@pytest.mark.dist
def test_an_error_in_two_processes_is_told_once(folder):
    result = run_script('dist_train.sh', folder / 'tiny.py', 2, '--data-root', 'nowhere', cwd=folder)
    assert result.returncode == 1
    assert len(re.findall(r'^error: --data-root', result.stderr, re.MULTILINE)) == 1
    assert 'Traceback' not in result.stderr


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'])
def test_scripts_explain_themselves(tmp_path, script):
    result = run_script(script, cwd=tmp_path)
    assert result.returncode == 1
    assert f'tools/{script} ' in result.stderr


def test_slurm_script_passes_everything_on(tmp_path):
    (tmp_path / 'srun').write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / 'srun').chmod(0o755)
    script = ROOT / 'tools' / 'slurm_train.sh'
    env = {**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'GPUS': '16'}
    result = subprocess.run(
        ['bash', script, 'gpu', 'name', 'c.py', 'work', '--amp', '--cfg-options', 'a=b c'],
        env=env,
        text=True,
        capture_output=True,
    )
    arguments = result.stdout.splitlines()
    assert {'--partition=gpu', '--ntasks=16', '--ntasks-per-node=8', '--gres=gpu:8'} <= set(arguments)
    assert arguments[-8:] == ['c.py', '--work-dir', 'work', '--launcher', 'slurm', '--amp', '--cfg-options', 'a=b c']
