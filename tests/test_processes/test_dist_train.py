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

from mocox.processes.group import MARGIN_S
from mocox.processes.store import free_port
from tests.support.processes import run_processes
from tests.support.tiny_run import ROOT, run_tool, write_run

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
            for pid in with_descendants(run.pid):  # torchrun gives each rank a session of its own
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            run.wait()


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]
    except OSError:
        return []


def with_descendants(pid: int) -> list[int]:
    return [pid, *(one for child in children(pid) for one in with_descendants(child))]


def wait_until(condition, seconds: float = 240) -> object:
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
    for pid in children(run.pid):
        if f'\0RANK={rank}\0' in Path(f'/proc/{pid}/environ').read_text():
            return pid
    raise ProcessLookupError(f'rank {rank} does not run')


def session_processes(session: int) -> list[str]:
    return subprocess.run(['ps', '-o', 'args=', '-s', str(session)], text=True, capture_output=True).stdout.splitlines()


@pytest.mark.slow
@pytest.mark.dist
def test_a_killed_process_ends_the_run_by_name_and_leaves_nothing_behind(tmp_path):
    config = write_run(tmp_path)
    port = free_port()
    run = dist_train(config, 2, '--work-dir', tmp_path / 'run', *ENDLESS, PORT=port)
    with ended_for_sure(run):
        wait_until(lambda: len(iterations(tmp_path / 'run')) > 3 or run.poll() is not None)
        victim = rank_process(run, 1)
        os.kill(victim, signal.SIGKILL)
        _, text = run.communicate(timeout=60)
        assert run.returncode != 0
        assert f'rank 1 (host {socket.gethostname()}, process {victim}) was ended by SIGKILL: if nobody sent it' in text
        wait_until(lambda: not session_processes(run.pid), 10)


SLOW_HOOK = """
import time
from mmengine.hooks import Hook
from mocox.registry import HOOKS

@HOOKS.register_module()
class SlowHook(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        time.sleep(0.5 * (runner.iter >= 6))  # from the third epoch on: time to cut the link
"""
SLOW_CONFIG = """
_base_ = 'tiny.py'
custom_imports = dict(imports=['slow_hook'])
custom_hooks = [dict(type='MomentumUpdateHook'), dict(type='SlowHook')]
"""


class TwoHosts:
    """Two network namespaces, 10.77.0.1 and 10.77.0.2, with a cable between them."""

    def __init__(self, name: str, python_path: Path) -> None:
        self.python_path = python_path
        self.names = [f'{name}{host}' for host in range(2)]

    def __enter__(self) -> 'TwoHosts':
        for name in self.names:
            self.ip('netns', 'add', name)
        first, second = self.names
        self.ip('link', 'add', first, 'netns', first, 'type', 'veth', 'peer', 'name', second, 'netns', second)
        for number, name in enumerate(self.names, start=1):
            self.ip('-n', name, 'addr', 'add', f'10.77.0.{number}/24', 'dev', name)
            self.ip('-n', name, 'link', 'set', 'lo', 'up')
            self.ip('-n', name, 'link', 'set', name, 'up')
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.names:
            subprocess.run(['ip', 'netns', 'del', name], capture_output=True)

    @staticmethod
    def ip(*arguments: str) -> None:
        subprocess.run(['ip', *arguments], check=True, capture_output=True, text=True)

    def link(self, state: str) -> None:
        self.ip('-n', self.names[0], 'link', 'set', self.names[0], state)

    def train(self, *arguments: object) -> list[subprocess.Popen]:
        """One process on each host."""
        return [
            dist_train(
                *arguments,
                prefix=('ip', 'netns', 'exec', name),
                NNODES=2,
                NODE_RANK=number,
                MASTER_ADDR='10.77.0.1',
                GLOO_SOCKET_IFNAME=name,
                PYTHONPATH=self.python_path,
            )
            for number, name in enumerate(self.names)
        ]


@pytest.fixture
def hosts(tmp_path):
    name = f'mx{os.getpid() % 10**6}h'
    if not shutil.which('ip'):
        pytest.skip('needs iproute2')
    try:
        with TwoHosts(name, tmp_path) as hosts:
            yield hosts
    except subprocess.CalledProcessError as error:
        pytest.skip(f'network namespaces are not permitted: {error.stderr.strip()}')


@pytest.mark.slow
@pytest.mark.dist
def test_two_hosts_survive_a_cut_link(tmp_path, hosts):
    config, work_dir = write_run(tmp_path), tmp_path / 'two'
    slow = config.with_name('slow.py')
    slow.write_text(SLOW_CONFIG)
    (tmp_path / 'slow_hook.py').write_text(SLOW_HOOK)
    options = [1, '--work-dir', work_dir, '--cfg-options', 'train_dataloader.batch_size=4']
    runs = hosts.train(slow, *options, 'env_cfg.dist_cfg.timeout=4')
    with ended_for_sure(*runs):
        wait_until(lambda: len(iterations(work_dir)) > 7 or any(run.poll() is not None for run in runs))
        hosts.link('down')
        start = time.monotonic()
        texts = [run.communicate(timeout=60)[1] for run in runs]
        assert time.monotonic() - start < 4 + MARGIN_S  # before torch's own timeout
    for run in runs:
        assert run.returncode not in (0, None)
    assert 'no sign of life from rank 1 for 4 s: rank 1 (host' in texts[0]
    assert 'no answer from rank 0 through 10.77.0.1:29500 for 4 s' in texts[1]

    hosts.link('up')
    runs = hosts.train(config, *options, '--resume')
    with ended_for_sure(*runs):
        texts = [run.communicate(timeout=240)[1] for run in runs]
        assert [run.returncode for run in runs] == [0, 0], texts

    run_tool('train.py', config, '--work-dir', tmp_path / 'one')
    assert iterations(work_dir) == pytest.approx(iterations(tmp_path / 'one'), rel=1e-4)
    one, two = (
        torch.load(path / 'epoch_4.pth', weights_only=True)['state_dict'] for path in (tmp_path / 'one', work_dir)
    )
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def train_here(*arguments: object) -> None:
    run_tool('train.py', *arguments, '--launcher', 'pytorch')


@pytest.mark.dist
def test_a_sharded_run_saves_resumes_and_equals_one_process(tmp_path):
    config = write_run(tmp_path)
    with config.open('a') as file:
        file.write("model_wrapper_cfg = dict(_delete_=True, type='mocox.FullyShard')\n")
    halves = ['--cfg-options', 'train_dataloader.batch_size=4']
    run_processes(train_here, 2, config, '--work-dir', tmp_path / 'two', *halves)
    middle = ['--resume', tmp_path / 'two' / 'epoch_2.pth']
    run_processes(train_here, 2, config, '--work-dir', tmp_path / 'again', *middle, *halves)
    run_tool('train.py', config, '--work-dir', tmp_path / 'one', *middle)
    two, again, one = (
        torch.load(tmp_path / name / 'epoch_4.pth', weights_only=True) for name in ('two', 'again', 'one')
    )
    for name, tensor in two['state_dict'].items():
        torch.testing.assert_close(again['state_dict'][name], tensor, rtol=0, atol=0, msg=name)
        torch.testing.assert_close(one['state_dict'][name], tensor, rtol=1e-4, atol=1e-5, msg=name)
    for number, state in two['optimizer']['state'].items():
        torch.testing.assert_close(again['optimizer']['state'][number], state, rtol=0, atol=0)
