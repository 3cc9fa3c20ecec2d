"""``tools/dist_train.sh`` where things go wrong: a killed process, and two machines whose link is cut."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.tiny_run import ROOT, write_run

ENDLESS = [
    '--cfg-options',
    'train_dataloader.batch_size=4',
    'train_dataloader.num_workers=1',
    'train_cfg.max_epochs=9999',
]


def environment(**values: object) -> dict[str, str]:
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    fixed = {'PATH': path, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    return {**os.environ, **fixed, **{name: str(value) for name, value in values.items()}}


def dist_train(*arguments: object, prefix: tuple = (), **env: object) -> subprocess.Popen:
    command = [*prefix, 'bash', ROOT / 'tools' / 'dist_train.sh', *arguments]
    return subprocess.Popen(
        [str(word) for word in command],
        env=environment(**env),
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@contextlib.contextmanager
def ended_for_sure(*runs: subprocess.Popen) -> Iterator[None]:
    try:
        yield
    finally:
        for run in runs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
            run.wait()


def wait_until(condition, seconds: float = 60) -> object:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, 'it did not happen in time'
        time.sleep(0.05)
    return result


def iterations(work_dir: Path) -> dict[int, float]:
    """The loss of every iteration that has been logged, of all starts."""
    entries = [
        json.loads(line)
        for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
        if line.endswith('}')
    ]
    return {entry['step']: entry['loss'] for entry in entries if 'loss' in entry}


def rank_process(run: subprocess.Popen, rank: int) -> int:
    """The process id of a rank that this ``torchrun`` has started."""
    for pid in Path(f'/proc/{run.pid}/task/{run.pid}/children').read_text().split():
        if f'\0RANK={rank}\0' in Path(f'/proc/{pid}/environ').read_text():
            return int(pid)
    raise ProcessLookupError(f'rank {rank} does not run')


def session_processes(session: int) -> list[str]:
    return subprocess.run(['ps', '-o', 'args=', '-s', str(session)], text=True, capture_output=True).stdout.splitlines()


@pytest.mark.dist
def test_a_killed_process_ends_the_run_by_name_and_leaves_nothing_behind(tmp_path):
    config = write_run(tmp_path)
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    run = dist_train(config, 2, '--work-dir', tmp_path / 'run', *ENDLESS, PORT=port)
    with ended_for_sure(run):
        wait_until(lambda: len(iterations(tmp_path / 'run')) > 3 or run.poll() is not None)
        victim = rank_process(run, 1)
        os.kill(victim, signal.SIGKILL)
        _, text = run.communicate(timeout=30)
        assert run.returncode != 0
        assert f'rank 1 (host {socket.gethostname()}, process {victim}) was ended by SIGKILL: if nobody did' in text
        wait_until(lambda: not session_processes(run.pid), 10)
