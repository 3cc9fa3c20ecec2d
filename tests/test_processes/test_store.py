"""The store of a run: where it listens, and what a stranger who reaches it can make the run do."""

import datetime
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

from mocox.processes import EXIT_PREEMPTED, group
from mocox.processes.launch import launch
from mocox.processes.store import TOKEN, SignedStore, free_port, serve
from mocox.processes.watchdog import Watchdog
from tests.support.tiny_run import ROOT

SECRET = 'of this run alone'


@pytest.fixture
def port() -> int:
    return free_port()


def answers(address: str, port: int) -> bool:
    with socket.socket() as caller:
        caller.settimeout(2)
        return caller.connect_ex((address, port)) == 0


@pytest.mark.parametrize(
    ('address', 'one_machine', 'elsewhere'),
    [('127.0.0.1', True, False), ('localhost', True, False), ('127.0.0.1', False, False), ('localhost', False, True)],
)
def test_the_store_listens_at_its_address_alone(port, address, one_machine, elsewhere):
    """A name may mean another address to another machine. All of 127.0.0.0/8 is this machine."""
    store = serve(address, port, one_machine, 5)
    assert answers('127.0.0.1', port)
    assert answers('127.0.0.2', port) == elsewhere
    again = dist.TCPStore(address, port, 1, True, datetime.timedelta(seconds=5), multi_tenant=True)  # as torchrun does
    again.set('a', 'b')
    assert store.get('a') == b'b'
    assert answers('127.0.0.2', port) == elsewhere


def test_an_address_in_front_of_this_machine_is_not_bound(port):
    """192.0.2.0/24 is nobody's (RFC 5737): a machine behind a translated address listens as torch does."""
    from mocox.processes.store import _listen

    assert _listen('192.0.2.1', port) is None


def test_a_port_that_is_taken_is_said(port, monkeypatch, capfd):
    monkeypatch.setenv(TOKEN, SECRET)
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    with socket.socket() as other:
        other.bind(('127.0.0.1', port))
        other.listen()
        assert launch([f'--master_port={port}', 'nothing.py']) == 1
    assert f'error: cannot listen at 127.0.0.1:{port} (Address already in use): set PORT' in capfd.readouterr().err


@pytest.fixture
def watched(port, monkeypatch):
    """A watchdog, and a stranger who has reached its store."""
    monkeypatch.setenv(TOKEN, SECRET)
    server = serve('127.0.0.1', port, True, 5)
    watchdog = Watchdog(SignedStore(server, 'watchdog'), 0, 1, 30.0, 'here', die=pytest.fail)
    watchdog.announce()
    stranger = dist.TCPStore('127.0.0.1', port, is_master=False, timeout=datetime.timedelta(seconds=5))
    keys = {key.rpartition('/')[2]: key for key in stranger.list_keys()}
    return watchdog, stranger, keys


FORGED = json.dumps([1, 'go home', EXIT_PREEMPTED])


@pytest.mark.parametrize('value', [FORGED, f'{"0" * 64} {FORGED}', '', '\0', 'é ' + FORGED, '[' * 99999])
def test_a_stranger_cannot_write_a_verdict(watched, value):
    watchdog, stranger, keys = watched
    assert SECRET not in str([(key, stranger.get(key)) for key in keys.values()])
    stranger.set(keys['verdict'], value)
    watchdog._read_verdict()
    assert (watchdog.verdict, watchdog.exit_code) == ('', EXIT_PREEMPTED)


def test_a_stranger_cannot_write_a_report_nor_move_one(watched):
    watchdog, stranger, keys = watched
    stranger.set(keys['verdict'], stranger.get(keys['0']))  # signed, but as something else
    watchdog._read_verdict()
    assert watchdog.verdict == ''
    watchdog._read_reports(['report/0'])
    before = watchdog.reports
    assert before[0]['pid'] == os.getpid()
    stranger.set(keys['0'], json.dumps({**before[0], 'failure': 'I say so'}))
    watchdog._read_reports(['report/0'])
    assert watchdog.reports == before


@pytest.mark.parametrize(('told', 'exits'), [(1, 1), (EXIT_PREEMPTED, EXIT_PREEMPTED), (0, 1), (3, 1), ('75', 1)])
def test_a_run_ends_with_one_of_two_codes(watched, told, exits):
    watchdog, _, _ = watched
    watchdog.store.set('verdict', json.dumps([1, 'rank 1 failed', told]))
    watchdog._read_verdict()
    assert (watchdog.verdict, watchdog.exit_code) == ('rank 1 failed', exits)


def test_a_stranger_cannot_say_who_has_arrived(watched, monkeypatch):
    """Nor end a meeting that a process is still on its way to."""
    watchdog, stranger, _ = watched
    arrivals, moment = SignedStore(watchdog.store.store, 'arrival'), dict(timeout_s=0.2)
    monkeypatch.setattr(group, 'MARGIN_S', 0.0)
    arrivals.set('0', 'here')
    place = next(key for key in stranger.list_keys() if '/arrival/' in key).removesuffix('0')
    for key, text in {'1': '', 'complete': 'missing: \x1b[31mnobody'}.items():
        stranger.set(place + key, text)
    with pytest.raises(ConnectionError, match='missing: rank 0'):  # its answer is awaited
        group._wait_for_all(arrivals, 1, 2, **moment)
    stranger.set(place + '1', 'here')
    with pytest.raises(ConnectionError, match='missing: rank 1'):
        group._wait_for_all(arrivals, 0, 2, **moment)
    with pytest.raises(ConnectionError, match='missing: rank 1'):  # now rank 0 has said so
        group._wait_for_all(arrivals, 2, 3, **moment)
    arrivals.set('1', 'here')
    group._wait_for_all(arrivals, 0, 2, **moment)
    group._wait_for_all(arrivals, 1, 2, **moment)


WORKER = f"""
import os, socket, sys
token, port = os.environ[{TOKEN!r}], int(os.environ['MASTER_PORT'])
lines = [open(f'/proc/{{pid}}/cmdline').read() for pid in (os.getpid(), os.getppid())]
reached = [socket.socket().connect_ex((address, port)) == 0 for address in ('127.0.0.1', '127.0.0.2')]
open(f'{{sys.argv[1]}}/{{os.environ["RANK"]}}', 'w').write(f'{{token}} {{reached}} {{token in str(lines)}}')
"""


@pytest.mark.dist
def test_the_launcher_gives_its_processes_a_secret_and_listens_here_alone(tmp_path, port):
    (tmp_path / 'worker.py').write_text(WORKER)
    command = [sys.executable, '-m', 'mocox.processes', '--nproc_per_node=2', f'--master_port={port}']
    env = {name: value for name, value in os.environ.items() if name != TOKEN} | {'PYTHONPATH': str(ROOT)}
    subprocess.run([*command, tmp_path / 'worker.py', tmp_path], env=env, check=True, timeout=240)
    first, second = (Path(tmp_path, str(rank)).read_text().partition(' ') for rank in range(2))
    assert len(first[0]) == 32
    assert first == second
    assert first[2] == '[True, False] False'
