"""Processes that die, stop, hang, fail or never arrive: the others end in time and say who it was."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from mocox.processes import EXIT_PREEMPTED
from mocox.processes.group import MARGIN_S
from mocox.processes.watchdog import BETWEEN, STEP, Judge, Report
from tests.support.tiny_run import ROOT

TIMEOUT_S = 3.0
IN_TIME_S = TIMEOUT_S + MARGIN_S  # before torch's own timeout, however busy the machine is


def report(rank: int, beat: int, **changes) -> Report:
    values = dict(host=f'h{rank}', pid=100 + rank, iteration=7, phase=STEP, where=f'a/b.py:{rank} in f')
    return Report(**{**values, **dict(rank=rank, beat=beat, waited_s=0.0, ended=False, failure='')} | changes)


def test_all_is_well_while_all_beat():
    judge = Judge(timeout_s=10, lost_after_s=4, interval_s=2)
    assert not any(judge.observe([report(0, beat), report(1, beat)]) for beat in range(20))


def test_a_process_without_a_beat_is_lost_after_the_stated_time():
    judge = Judge(timeout_s=10, lost_after_s=4, interval_s=2)
    verdicts = [judge.observe([report(0, beat), report(1, 0, phase=BETWEEN)]) for beat in range(4)]
    assert verdicts[:3] == ['', '', '']  # 0, 2 and 4 seconds without one
    assert verdicts[3].startswith('no sign of life from rank 1 for 4 s: rank 1 (host h1, process 101) was last seen in')
    assert f'{BETWEEN} (iteration 7), at a/b.py:1 in f' in verdicts[3]


def test_a_missed_beat_is_forgiven():
    judge = Judge(timeout_s=10, lost_after_s=4, interval_s=2)
    assert not any(judge.observe([report(0, turn), report(1, turn // 2)]) for turn in range(20))


def test_who_has_ended_is_not_missed():
    judge = Judge(timeout_s=10, lost_after_s=4, interval_s=2)
    assert not any(judge.observe([report(0, beat), report(1, 0, ended=True)]) for beat in range(9))


def test_the_absent_one_is_told_from_those_who_wait():
    reports = [report(0, 1, waited_s=11.0), report(1, 1, phase=BETWEEN, where='dataloader.py:9 in get'), report(2, 1)]
    verdict = Judge(10, 4, 2).observe(reports)
    assert verdict.startswith('ranks 0, 2 waited 10 s in iteration 7 for rank 1: rank 1 (host h1, process 101) is in')
    assert 'dataloader.py:9 in get' in verdict


def test_where_nobody_is_absent_the_rarest_place_comes_first():
    reports = [report(rank, 1, waited_s=11.0, where='x.py:1 in all' if rank else 'y.py:2 in one') for rank in range(40)]
    verdict = Judge(10, 4, 2).observe(reports)
    assert 'on any rank: rank 0 at y.py:2 in one; ranks 1, 2, 3,' in verdict
    assert '16 and 23 more at x.py:1 in all' in verdict


def test_a_failure_is_told_with_its_reason():
    reports = [report(0, 1), report(1, 1, ended=True, failure='ValueError: this is why')]
    assert Judge(10, 4, 2).observe(reports) == 'rank 1 (host h1, process 101) failed: ValueError: this is why'


# Imports once, then forks the two processes of each scenario; a line of JSON tells their exit codes and times.
SCENARIOS = """
import json, os, signal, sys, time
import torch
from mocox import cli
from mocox.processes import group

def work(scenario, rank, timeout_s):
    if scenario == 'absent':
        group.MEETING_S = 2 * timeout_s
        if rank == 1:
            os._exit(0)
    if scenario == 'late':
        group.MARGIN_S = 0.5
    group.start('pytorch', timeout_s)
    if scenario == 'late':
        time.sleep(rank * (timeout_s + 3))  # a collective would have given up
        group.meet()
        torch.distributed.all_reduce(torch.ones(1))
        return
    for i in range(10 if scenario == 'end' else 10**6):
        if i == 10 and rank == 1 and scenario == 'hang':
            time.sleep(1000)
        if i == 10 and rank == 1 and scenario == 'raise':
            raise ValueError('this is why')
        group.note_progress(i, in_step=True)
        if i == 10 and rank == 1 and scenario == 'skip':
            time.sleep(1000)
        torch.distributed.all_reduce(torch.ones(1))
        group.note_progress(i + 1, in_step=False)
        if i == 10 and scenario in ('kill', 'stop', 'stop0') and rank == (scenario != 'stop0'):
            time.sleep(1.5)  # for a beat
            os.kill(os.getpid(), signal.SIGKILL if scenario == 'kill' else signal.SIGSTOP)
    if scenario == 'end':
        time.sleep(rank)  # rank 0 serves the store: it must not leave before the others

torch.set_num_threads(1)
timeout_s, folder = float(sys.argv[1]), sys.argv[2]
children = {}
for scenario, port in json.loads(sys.argv[3]).items():
    for rank in range(2):
        start = time.monotonic()
        pid = os.fork()
        if not pid:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
                              MASTER_PORT=str(port))
            error = os.open(f'{folder}/{scenario}{rank}.txt', os.O_CREAT | os.O_WRONLY)
            os.dup2(error, 2)
            cli.run_tool(lambda: work(scenario, rank, timeout_s))
            os._exit(0) if scenario == 'absent' else sys.exit(0)
        children[pid] = (scenario, rank, start)
stopped = [pid for pid, (scenario, rank, _) in children.items() if (scenario, rank) in (('stop', 1), ('stop0', 0))]
while len(children) > len(stopped):
    pid, status = os.wait()
    scenario, rank, start = children.pop(pid)
    print(json.dumps([scenario, rank, os.waitstatus_to_exitcode(status), time.monotonic() - start]), flush=True)
for pid in stopped:
    os.kill(pid, signal.SIGKILL)
"""


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(('127.0.0.1', 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@pytest.fixture(scope='module')
def outcomes(tmp_path_factory) -> dict:
    """Of each scenario and rank: exit code, seconds, what was written to stderr."""
    folder = tmp_path_factory.mktemp('scenarios')
    names = ['end', 'kill', 'stop', 'stop0', 'hang', 'skip', 'raise', 'absent', 'late']
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    # The logging level: torch warns where the name server does not answer.
    env = {**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'PYTHONPATH': str(ROOT), 'TORCH_CPP_LOG_LEVEL': 'ERROR'}
    command = [sys.executable, '-c', SCENARIOS, str(TIMEOUT_S), str(folder), json.dumps(ports)]
    with subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            lines = process.communicate(timeout=240)[0].splitlines()
            ended = [json.loads(line) for line in lines if line.startswith('["')]  # gloo may print of its connections
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return {
        (scenario, rank): (code, seconds, (folder / f'{scenario}{rank}.txt').read_text())
        for scenario, rank, code, seconds in ended
    }


@pytest.mark.dist
@pytest.mark.parametrize(
    ('scenario', 'survivor', 'message'),
    [
        ('kill', 0, r'no sign of life from rank 1 for 3 s: rank 1 \(host .*, process \d+\) was last seen in between'),
        ('stop', 0, r'no sign of life from rank 1 for 3 s: .* at <string>:\d+ in work'),
        ('stop0', 1, r'no answer from rank 0 through 127.0.0.1:\d+ for 3 s'),
        ('hang', 0, r'rank 0 waited 3 s in iteration 10 for rank 1: .* is in between two steps .* in work'),
        ('skip', 0, r'iteration 10 did not end within 3 s on any rank: .*rank 1 at <string>:\d+ in work'),
        ('raise', 0, r'rank 1 \(host .*\) failed: this is why'),
    ],
)
def test_the_survivor_ends_in_time_and_names_the_culprit(outcomes, scenario, survivor, message):
    code, seconds, text = outcomes[scenario, survivor]
    assert code == (1 if scenario == 'raise' else EXIT_PREEMPTED)
    assert seconds < IN_TIME_S
    assert re.search(rf'^error: \(rank {survivor}\) .*{message}', text, re.MULTILINE), text
    assert 'Traceback' not in text


@pytest.mark.dist
def test_the_culprit_ends_as_well_and_says_why(outcomes):
    for scenario in ('hang', 'skip'):
        code, _, text = outcomes[scenario, 1]
        assert code == EXIT_PREEMPTED
        assert text.startswith('error: (rank 1) ')
    assert outcomes['raise', 1][0] == 1
    assert outcomes['raise', 1][2] == 'error: (rank 1) this is why\n'


@pytest.mark.dist
def test_a_meeting_waits_for_longer_than_a_collective(outcomes):
    for rank in range(2):
        code, seconds, text = outcomes['late', rank]
        assert (code, text) == (0, '')
        assert seconds > TIMEOUT_S + 3


@pytest.mark.dist
def test_who_never_arrives_is_named(outcomes):
    code, seconds, text = outcomes['absent', 0]
    assert code == 1
    assert seconds < IN_TIME_S
    assert text.startswith('error: waited 6 s for 2 processes; missing: rank 1. Was every machine started')


@pytest.mark.dist
def test_a_good_end_is_quiet_and_the_first_rank_waits_for_the_last(outcomes):
    assert [outcomes['end', rank][0::2] for rank in range(2)] == [(0, '')] * 2
    assert outcomes['end', 0][1] > 1  # rank 1 had another second to do
