"""End a run whose processes are out of step, and name the one that stopped.

Every process tells a shared store, every few seconds and from a thread of its own, how far it is and where its main
thread stands. Rank 0 reads what all have told and answers with a verdict, which all read: so a beat costs the store
three requests per process, and the training step nothing. Beats are counted on the reader's side, so that no clocks
are compared and a job that was suspended as a whole goes on.
"""

import json
import multiprocessing
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from mocox.processes.store import SignedStore

from mocox.processes import EXIT_PREEMPTED
from mocox.terminal import one_line

LOST_AFTER_S = 60.0  # without a beat: the process is dead or stopped, or cannot be reached
STEP, BETWEEN = 'the training step', 'between two steps'


class Report(TypedDict):
    """A process's report to the others; see :meth:`Watchdog.report`."""

    rank: int
    host: str
    pid: int
    beat: int
    iteration: int
    phase: str
    where: str
    waited_s: float
    ended: bool
    failure: str


class Judge:
    """Find the processes that hold up the others.

    Args:
        timeout_s: Seconds that a process may spend in one training step.
        lost_after_s: Seconds without a beat after which a process counts as lost.
        interval_s: Seconds between two observations.
    """

    def __init__(self, timeout_s: float, lost_after_s: float, interval_s: float) -> None:
        self.timeout_s, self.lost_after_s, self.interval_s = timeout_s, lost_after_s, interval_s
        self.beats: dict[int, int] = {}
        self.missed: dict[int, int] = {}

    def observe(self, reports: list[Report]) -> str:
        """Return a message for the user, or '' while all is well; called once per interval with all ranks' reports."""
        for report in reports:
            rank, beat = report['rank'], report['beat']
            self.missed[rank] = self.missed.get(rank, 0) + 1 if self.beats.get(rank) == beat else 0
            self.beats[rank] = beat
        running = [report for report in reports if not report['ended']]
        failed = [report for report in reports if report['failure']]
        lost = [report for report in running if self.missed[report['rank']] * self.interval_s > self.lost_after_s]
        stuck = [report for report in running if report['waited_s'] > self.timeout_s]
        if failed:
            return '; '.join(f'{_name(report)} failed: {report["failure"]}' for report in failed[:4])
        if lost:
            return self._describe_lost(lost)
        return self._describe_stuck(running, max(report['iteration'] for report in stuck)) if stuck else ''

    def _describe_lost(self, lost: list[Report]) -> str:
        seen = '; '.join(f'{_name(report)} was last seen in {_place(report)}' for report in lost[:8])
        return (
            f'no sign of life from {_ranks(lost)} for {self.lost_after_s:g} s: {seen}. The process was killed or '
            'stopped, or its machine or the network to it is down'
        )

    def _describe_stuck(self, running: list[Report], iteration: int) -> str:
        waiting = [report for report in running if report['iteration'] == iteration and report['phase'] == STEP]
        absent = [report for report in running if report not in waiting]
        if absent:
            places = '; '.join(f'{_name(report)} is in {_place(report)}' for report in absent[:8])
            return (
                f'{_ranks(waiting)} waited {self.timeout_s:g} s in iteration {iteration} for {_ranks(absent)}: {places}'
            )
        groups: dict[str, list[Report]] = {}
        for report in waiting:
            groups.setdefault(report['where'], []).append(report)
        rarest_first = sorted(groups.items(), key=lambda item: len(item[1]))
        places = '; '.join(f'{_ranks(group)} at {where}' for where, group in rarest_first[:8])
        return (
            f'the training step of iteration {iteration} did not end within {self.timeout_s:g} s on any rank: {places}'
        )


def _name(report: Report) -> str:
    return f'rank {report["rank"]} (host {report["host"]}, process {report["pid"]})'


def _ranks(reports: list[Report]) -> str:
    numbers = [str(report['rank']) for report in reports]
    more = f' and {len(numbers) - 16} more' if len(numbers) > 16 else ''
    return f'rank {numbers[0]}' if len(numbers) == 1 else f'ranks {", ".join(numbers[:16])}{more}'


def _place(report: Report) -> str:
    return f'{report["phase"]} (iteration {report["iteration"]}), at {report["where"]}'


def main_thread_place() -> str:
    """The current line of the main thread, as ``folder/file.py:12 in function``."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    if frame is None:
        return 'its end'
    path = '/'.join(Path(frame.f_code.co_filename).parts[-2:])
    return f'{path}:{frame.f_lineno} in {frame.f_code.co_name}'


class Watchdog:
    """The two threads of a process: one talks to the store, the other ends the process, even if the first hangs.

    Args:
        store: Shared by all processes; no other thread may use this object of it.
        rank: Rank of this process.
        world_size: Number of processes.
        timeout_s: Seconds that a training step may take.
        address: Address of the store, for the message that it cannot be reached.
        die: Ends the process with a message and an exit code; by default prints it and exits.
    """

    def __init__(
        self,
        store: 'SignedStore',
        rank: int,
        world_size: int,
        timeout_s: float,
        address: str,
        die: Callable[[str, int], None] | None = None,
    ) -> None:
        self.store, self.rank, self.world_size, self.address = store, rank, world_size, address
        self.timeout_s, self.lost_after_s = timeout_s, min(LOST_AFTER_S, timeout_s)
        self.interval_s = min(2.0, self.lost_after_s / 5)
        self.die = die or self._print_and_exit
        self.iteration, self.phase = 0, 'the start of the run'
        self.beat, self.waited_s, self.progress = 0, 0.0, (0, '')
        self.ended, self.asked_to_end, self.failure = False, False, ''
        self.verdict, self.exit_code, self.verdict_beat = '', EXIT_PREEMPTED, 0
        self.reports: list[Report] = []
        self.wake, self.told, self.stopped = threading.Event(), threading.Event(), threading.Event()
        self.threads: list[threading.Thread] = []

    def announce(self) -> None:
        """Write the first report, which must exist before any process starts its threads."""
        self._tell()
        if self.rank == 0:
            self._answer('')

    def start(self) -> None:
        """Start the threads, once all processes have announced themselves."""
        for work in (self._talk, self._watch):
            self.threads.append(threading.Thread(target=work, daemon=True, name=f'mocox-watchdog{work.__name__}'))
            self.threads[-1].start()

    def note(self, iteration: int, phase: str) -> None:
        """Report what the main thread does now."""
        self.iteration, self.phase = iteration, phase

    def finish(self, failure: str = '') -> None:
        """Take this process out of the watch, and tell the others why if it failed.

        Rank 0 goes on judging until all have ended; after a bad verdict, for as long as the others need to read it.
        """
        if self.stopped.is_set():
            return
        self.failure, self.ended = failure, True
        self._wait_told()
        if self.rank == 0:
            rounds = 0
            while not (all(report['ended'] for report in self.reports) or (self.verdict and rounds > 2)):
                self.stopped.wait(self.interval_s)
                rounds += 1
        self.stopped.set()
        self.wake.set()
        for thread in self.threads:
            thread.join(2 * self.interval_s)

    def await_verdict(self) -> None:
        """Wait for the watchdog's verdict on a broken collective, which ends the process; return after a timeout."""
        self.stopped.wait(self.lost_after_s + 5 * self.interval_s)

    def report(self) -> Report:
        """Report the position of this process."""
        return Report(
            rank=self.rank,
            host=socket.gethostname(),
            pid=os.getpid(),
            beat=self.beat,
            iteration=self.iteration,
            phase=self.phase,
            where=main_thread_place(),
            waited_s=self.waited_s,
            ended=self.ended,
            failure=self.failure,
        )

    def _wait_told(self) -> None:
        self.told.clear()
        self.wake.set()
        self.told.wait(2 * self.interval_s)

    def _tell(self) -> None:
        self.beat += 1
        self.store.set(f'report/{self.rank}', json.dumps(self.report()))

    def _answer(self, verdict: str) -> None:
        code = 1 if any(report['failure'] for report in self.reports) else EXIT_PREEMPTED
        self.store.set('verdict', json.dumps([self.beat, verdict, code]))

    def _talk(self) -> None:
        judge = Judge(self.timeout_s, self.lost_after_s, self.interval_s)
        keys = [f'report/{rank}' for rank in range(self.world_size)]
        while not self.stopped.is_set():
            try:
                self._tell()
                if self.rank == 0:
                    self._read_reports(keys)
                    self._answer(judge.observe(self.reports))
                self._read_verdict()
            except RuntimeError:  # the store cannot be reached, now or for good: _watch counts
                pass
            self.told.set()
            self.wake.wait(self.interval_s)
            self.wake.clear()

    def _read_reports(self, keys: list[str]) -> None:
        """Read the reports of all ranks. Anything that is not a signed report counts as a missed beat."""
        new = [json.loads(text) if text else None for text in self.store.multi_get(keys)]
        known = [report or old for report, old in zip(new, self.reports or new, strict=True)]
        self.reports = [report for report in known if report]

    def _read_verdict(self) -> None:
        if text := self.store.get('verdict'):
            self.verdict_beat, self.verdict, code = json.loads(text)
            self.exit_code = code if code in (1, EXIT_PREEMPTED) else 1

    def _watch(self) -> None:
        silent, last_beat = 0, -1
        while not self.stopped.wait(self.interval_s):
            self._count_waiting()
            silent = silent + 1 if self.verdict_beat == last_beat else 0
            last_beat = self.verdict_beat
            unanswered = silent * self.interval_s > self.lost_after_s + self.interval_s
            if self.ended and unanswered:
                self.stopped.set()  # nobody is left to talk to
            elif self.verdict and not self.ended:
                self.stopped.wait(2 * self.interval_s if self.rank == 0 else 0)  # the others read it, too
                self.die(self.verdict, self.exit_code)
            elif unanswered:
                self.die(
                    f'no answer from rank 0 through {self.address} for {self.lost_after_s:g} s: rank 0 was killed or '
                    'stopped, or its machine or the network to it is down',
                    EXIT_PREEMPTED,
                )

    def _count_waiting(self) -> None:
        progress = (self.iteration, self.phase)
        same = progress == self.progress and self.phase == STEP
        self.waited_s = self.waited_s + self.interval_s if same else 0.0
        self.progress = progress

    def _print_and_exit(self, message: str, code: int) -> None:
        line_start = '\n' if sys.stderr.isatty() else ''  # a progress line may be standing there
        print(f'{line_start}error: (rank {self.rank}) {one_line(message)}', file=sys.stderr, flush=True)
        for child in multiprocessing.active_children():  # loader workers
            child.kill()
        os._exit(code)
