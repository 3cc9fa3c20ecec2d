"""All tests marked ``gpu``; each outcome is written down as its test ends."""

import os
from pathlib import Path
from typing import Any

import pytest

from lab.gpu_day.day import Day, Notes, Piece

ROOT = Path(__file__).parents[3]
MARK = 'mark.gpu'
TINY = ['tests/test_step.py']  # two, which are skipped on a CPU
MOST_STARTS = 2  # of a test that ends the process


def pieces(day: Day, stage: str) -> list[Piece]:
    """One, whose parts are the tests."""
    return [Piece('marked gpu', 60, lambda notes: run_tests(day, notes))]


def run_tests(day: Day, notes: Notes) -> dict[str, Any]:
    """Run those that have not ended before.

    Raises:
        RuntimeError: pytest could not run.
    """
    os.environ.setdefault('MPLBACKEND', 'Agg')
    marked = TINY if day.tiny else files_with_marks()
    options = ['-q', '-m', 'gpu', '-p', 'no:cacheprovider', '-p', 'no:faulthandler', '--no-header', '--durations=0']
    here = os.getcwd()
    os.chdir(ROOT)
    try:
        code = pytest.main([*options, *marked], plugins=[Recorder(notes)])
    finally:
        os.chdir(here)
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise RuntimeError(f'pytest ended with {code!r}')
    return summary(notes.known)


def files_with_marks() -> list[str]:
    """Test files in which a test is marked: collecting all others takes longer than running these."""
    files = sorted((ROOT / 'tests').rglob('test_*.py'))
    return [str(path.relative_to(ROOT)) for path in files if MARK in path.read_text(encoding='utf-8')]


class Recorder:
    """A plugin of pytest: leaves out what has ended before, and writes down what ends."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """After the marks have chosen."""
        left_out = [item for item in items if self._is_over(item.nodeid)]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if item not in left_out]

    def _is_over(self, test: str) -> bool:
        known = self.notes.known.get(test, {})
        return known.get('outcome', 'started') != 'started' or known.get('starts', 0) >= MOST_STARTS

    def pytest_runtest_logstart(self, nodeid: str, location: tuple) -> None:
        """Remembers which test the process may die of."""
        starts = self.notes.known.get(nodeid, {}).get('starts', 0) + 1
        self.notes.add(nodeid, outcome='started', starts=starts)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Of setup, call and teardown; the worst counts."""
        known = self.notes.known.get(report.nodeid, {})
        if report.when == 'call' or not report.passed:
            reason = '' if report.passed else str(report.longrepr)[-600:]
            starts = known.get('starts', 1)
            seconds = round(report.duration, 2)
            self.notes.add(report.nodeid, outcome=report.outcome, seconds=seconds, reason=reason, starts=starts)


def summary(known: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Counts, and the tests that failed or ended the process."""
    outcomes = [result['outcome'] for result in known.values()]
    counts = {outcome: outcomes.count(outcome) for outcome in ('passed', 'failed', 'skipped', 'started')}
    counts['died'] = counts.pop('started')
    failed = {
        name: result.get('reason', 'the process died')
        for name, result in known.items()
        if result['outcome'] in ('failed', 'started')
    }
    listed = ', '.join(f'{count} {outcome}' for outcome, count in counts.items() if count)
    return dict(counts=counts, failed=failed, text=listed or 'no test is marked')
