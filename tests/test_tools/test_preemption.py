"""The scripts of tools/ where a cluster takes its machine back, and where a process dies."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mocox.checkpoint.files import open_file
from mocox.processes.store import free_port
from tests.support.processes import run_processes
from tests.support.tiny_run import ROOT, run_tool, write_run

SLURM_SCRIPT = ROOT / 'tools' / 'slurm_train.sh'


@pytest.fixture
def slurm(tmp_path):
    """The commands of a cluster, which write down how they were called; ``srun`` ends with the code it is given."""
    for name in ('sbatch', 'srun', 'scontrol'):
        script = f'#!/bin/sh\necho "{name} $@" >> {tmp_path}/calls\n[ {name} = srun ] && exit ${{CODE:-0}}; exit 0\n'
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)

    def run(*arguments: str, **env: str) -> tuple[int, list[str]]:
        (tmp_path / 'calls').unlink(missing_ok=True)
        path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
        script = env.pop('script', SLURM_SCRIPT)
        result = subprocess.run(['bash', script, *arguments], env={**os.environ, 'PATH': path, **env})
        return result.returncode, (tmp_path / 'calls').read_text().splitlines()

    return run


ARGUMENTS = ('gpu', 'name', 'c.py', 'work', '--amp')


def test_a_batch_job_is_submitted(slurm):
    code, calls = slurm(*ARGUMENTS, REQUEUE='1', GPUS='16', GRACE='90', SBATCH_ARGS='--time=1:00:00 --qos=low')
    assert code == 0 and len(calls) == 1
    words = calls[0].split()
    assert words[0] == 'sbatch' and words[-len(ARGUMENTS) - 1 :] == [str(SLURM_SCRIPT), *ARGUMENTS]
    assert {'--requeue', '--signal=USR1@90', '--ntasks=16', '--gres=gpu:8', '--time=1:00:00', '--qos=low'} <= set(words)


@pytest.mark.parametrize(('exit_code', 'requeued'), [(75, True), (0, False), (1, False)])
def test_a_preempted_job_goes_back_to_the_queue(slurm, tmp_path, exit_code, requeued):
    copied = tmp_path / 'slurm_script'  # slurmd runs a copy of it
    copied.write_text(SLURM_SCRIPT.read_text())
    env = dict(REQUEUE='1', MOCOX_TOOLS=str(ROOT / 'tools'), SLURM_JOB_ID='17', CODE=str(exit_code))
    code, calls = slurm(*ARGUMENTS, script=copied, **env)
    assert code == exit_code
    assert f'{ROOT}/tools/train.py c.py --work-dir work --launcher slurm --resume auto --amp' in calls[0]
    assert calls[1:] == (['scontrol requeue 17'] if requeued else [])


def test_a_signal_that_reaches_the_batch_script_too_does_not_keep_it_from_requeueing(slurm, tmp_path):
    (tmp_path / 'srun').write_text('#!/bin/sh\nkill -TERM $PPID\nkill -USR1 $PPID\nsleep 0.3\nexit 75\n')
    code, calls = slurm(*ARGUMENTS, MOCOX_TOOLS=str(ROOT / 'tools'), SLURM_JOB_ID='17')
    assert code == 75 and calls == ['scontrol requeue 17']


def test_in_the_foreground_nothing_is_requeued(slurm):
    code, calls = slurm(*ARGUMENTS, CODE='75')
    assert code == 75 and len(calls) == 1 and '--resume' not in calls[0]


OPTIONS = ['--cfg-options', 'train_dataloader.batch_size=4', 'train_cfg.max_epochs=12']
OPTIONS += ['default_hooks.checkpoint.iter_interval=2']


def start(folder: Path, work_dir: Path, *arguments: str, **env: str) -> subprocess.Popen:
    """``tools/dist_train.sh`` on two processes."""
    port = free_port()
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    env = {**os.environ, 'PATH': path, 'PORT': str(port), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', **env}
    command = ['bash', ROOT / 'tools' / 'dist_train.sh', folder / 'tiny.py', '2', '--work-dir', work_dir, *arguments]
    return subprocess.Popen(
        [*map(str, command), *OPTIONS],
        cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def wait_for(happens: Callable[[], object], run: subprocess.Popen) -> object:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and run.poll() is None:
        if answer := happens():
            return answer
        time.sleep(0.01)
    raise AssertionError(run.communicate()[0])


def rank_of(run: subprocess.Popen, rank: int) -> int | None:
    for child in Path(f'/proc/{run.pid}/task/{run.pid}/children').read_text().split():
        with contextlib.suppress(OSError):  # it has just ended
            if f'\0RANK={rank}\0' in Path(f'/proc/{child}/environ').read_text():
                return int(child)
    return None


def train_here(*arguments: object) -> None:
    run_tool('train.py', *arguments, '--launcher', 'pytorch')


@pytest.mark.slow
@pytest.mark.dist
def test_restarted_preempted_and_continued(tmp_path):
    """A killed rank is started again by torchrun, SIGTERM to torchrun ends in 75, and the end is that of no trouble."""
    config = write_run(tmp_path)
    run_processes(train_here, 2, config, '--work-dir', tmp_path / 'straight', *OPTIONS)

    work_dir = tmp_path / 'troubled'
    run = start(tmp_path, work_dir, MAX_RESTARTS='1')
    wait_for(lambda: (work_dir / 'last_checkpoint').is_file(), run)
    killed = wait_for(lambda: rank_of(run, 1), run)
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: rank_of(run, 1) not in (killed, None), run)
    saved = (work_dir / 'last_checkpoint').read_text()
    wait_for(lambda: (work_dir / 'last_checkpoint').read_text() != saved, run)  # it goes on
    run.send_signal(signal.SIGTERM)
    said = run.communicate(timeout=240)[0]
    assert run.returncode == 75, said
    assert 'Resuming at iteration' in said and 'SIGTERM: saving after iteration' in said

    run_processes(train_here, 2, config, '--work-dir', work_dir, '--resume', 'auto', *OPTIONS)
    one, other = (open_file(tmp_path / name / 'epoch_12.pth')[0]['state_dict'] for name in ('straight', 'troubled'))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
