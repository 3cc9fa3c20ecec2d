"""Every stage of the day on a GPU, rehearsed on the CPU; a rehearsal that is killed loses nothing."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from lab.gpu_day import images, lacks, marked_tests, profiles, run, stages
from lab.gpu_day.day import Day, Notes, Piece
from lab.gpu_day.journal import DONE, FAILED, PART, STARTED, Journal
from lab.gpu_day.report import write_report
from lab.gpu_day.worker import AGAIN, lock, work
from mocox.datasets.idx import read_idx
from tests.support.tiny_run import ROOT, run_tool


def start(out: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / 'tools/gpu_day.py'), str(out), '--device', 'cpu', '--tiny', *arguments]
    environment = os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def lines(out: Path) -> list[dict]:
    return [line for stage in stages.NAMES for line in lines_of(out, stage)]


def lines_of(out: Path, stage: str) -> list[dict]:
    return Journal(out / f'{stage}.jsonl').lines


def done(out: Path) -> list[tuple[str, str]]:
    return [(line['piece'], line['call']) for line in lines(out) if line['state'] == DONE]


@pytest.mark.slow
def test_every_stage_and_a_kill_in_the_middle(tmp_path):
    with start(tmp_path) as first:
        while not lines_of(tmp_path, 'tests'):  # in the middle of its piece
            assert first.poll() is None, first.stdout.read()
            time.sleep(0.1)
        first.kill()
    before = done(tmp_path)
    with start(tmp_path) as second:
        try:
            printed, _ = second.communicate(timeout=600)
        finally:
            second.kill()
    assert second.returncode == 0, printed
    found = done(tmp_path)
    assert before and set(before) < set(found)
    names = [piece for piece, _ in found]
    assert len({call for _, call in found}) == 2
    assert not [line for line in lines(tmp_path) if line['state'] == FAILED], printed
    for stage in stages.NAMES:
        results = Journal(tmp_path / f'{stage}.jsonl').results()
        assert results, stage
    assert len(names) == sum(len(Journal(tmp_path / f'{stage}.jsonl').results()) for stage in stages.NAMES)  # once each
    report = (tmp_path / 'report.md').read_text()
    assert 'A rehearsal: no number below means anything' in report
    assert '| open' not in report and '## Open' not in report
    for title in ('Targets', 'Training steps', 'Tests marked gpu', 'Profile', 'Input pipeline', 'Memory', 'A real run'):
        assert f'## {title}' in report
    assert 'lacking:\n  a GPU' in printed
    for piece in {piece for piece, call in before}:
        assert f'{piece}: done before' in printed


@pytest.fixture
def day(tmp_path) -> Day:
    return Day(tmp_path, 'cpu', True, None, 2)


class Stub:
    """Takes the place of a stage's module."""

    def __init__(self, *pieces: Piece) -> None:
        self._pieces = list(pieces)

    def pieces(self, day: Day, stage: str) -> list[Piece]:
        return self._pieces


@pytest.fixture
def stub(monkeypatch):
    def put(*pieces: Piece, stage: str = 'exact') -> None:
        module = next(one.module for one in stages.STAGES if one.name == stage)
        monkeypatch.setitem(sys.modules, f'lab.gpu_day.{module}', Stub(*pieces))

    return put


def fail(notes: Notes) -> dict:
    raise RuntimeError('CUDA error')


def test_a_failure_ends_the_process_and_the_next_one_goes_on_after_it(day, stub):
    ran = []
    stub(
        Piece('one', 1, lambda notes: ran.append('one') or dict(text='1')),
        Piece('bad', 1, fail),
        Piece('two', 1, lambda notes: ran.append('two') or {}),
    )
    assert work(day, ['exact'], 'call', time.time() + 60) == AGAIN
    assert work(day, ['exact'], 'call', time.time() + 60) == 0
    assert ran == ['one', 'two']
    journal = Journal(day.out / 'exact.jsonl')
    assert journal.failures() == {'bad': 'RuntimeError: CUDA error'}
    assert '- exact: bad: RuntimeError: CUDA error' in (day.out / 'report.md').read_text()
    stub(Piece('bad', 1, lambda notes: dict(text='now it works')))
    assert work(day, ['exact'], 'another call', time.time() + 60) == 0
    assert not Journal(day.out / 'exact.jsonl').failures()


def test_nothing_begins_that_would_not_end_in_time(tmp_path, stub, capsys):
    stub(Piece('long', 30, lambda notes: pytest.fail('was begun')), Piece('short', 5, lambda notes: {}))
    assert work(Day(tmp_path, 'cpu', False, None, 2), ['exact'], 'call', time.time() + 20) == 0
    assert list(Journal(tmp_path / 'exact.jsonl').results()) == ['short']
    assert 'long: left to the next call: it takes about 30 s' in capsys.readouterr().out


def test_parts_of_a_piece_survive_it(day, stub):
    def part(notes: Notes) -> dict:
        for name in ('a', 'b', 'c'):
            if name not in notes.known:
                notes.add(name, value=name)
                if name == 'b':
                    raise RuntimeError
        return notes.known

    stub(Piece('parts', 1, part))
    assert work(day, ['exact'], 'first', time.time() + 60) == AGAIN
    assert work(day, ['exact'], 'second', time.time() + 60) == 0
    journal = Journal(day.out / 'exact.jsonl')
    assert {name: journal.results()['parts'][name] for name in 'abc'} == {name: dict(value=name) for name in 'abc'}
    assert [line['part'] for line in journal.lines if line['state'] == PART] == ['a', 'b', 'c']


def test_a_torn_line_is_left_out_and_the_next_is_whole(tmp_path):
    path = tmp_path / 'x.jsonl'
    Journal(path).write(DONE, 'one', dict(value=1))
    Journal(path).write(STARTED, 'two')
    path.write_bytes(path.read_bytes()[:-9])
    journal = Journal(path)
    assert [line['piece'] for line in journal.lines] == ['one']
    journal.write(DONE, 'three')
    assert list(Journal(path).results()) == ['one', 'three']


def test_two_commands_do_not_share_a_folder(tmp_path):
    held = lock(tmp_path)
    with pytest.raises(ValueError, match=r'another gpu_day\.py is at work'):
        lock(tmp_path, patience=0.1)
    held.close()
    lock(tmp_path, patience=0.1).close()


def test_a_worker_that_gets_nowhere_is_not_started_for_ever(tmp_path, monkeypatch):
    starts = []

    class Ended:
        returncode = 1

    monkeypatch.setattr(run.subprocess, 'run', lambda *args, **kwargs: starts.append(args) or Ended)
    assert not run._work([str(tmp_path)], tmp_path)
    assert len(starts) == 1


def test_the_plan_fits_into_calls_and_holds_each_stage_once():
    calls = stages.plan(list(stages.STAGES))
    assert len(calls) == 3
    assert sorted(stage.name for call in calls for stage in call) == sorted(stages.NAMES)
    assert all(stages.START_SECONDS + sum(stage.seconds for stage in call) <= 570 for call in calls)
    assert all(stage.seconds <= stages.STAGE_SECONDS == 540 for stage in stages.STAGES)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--stage', 'nonsense'], '--stage nonsense: choose among machine, tests'),
        (['--minutes', '0'], '--minutes 0: must be above 0'),
        (['--tiny'], '--tiny is a rehearsal: give --device cpu'),
        (['--device', 'cpu', '--data', '/'], '--data /: neither the four IDX files'),
    ],
)
def test_mistakes(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_tool('gpu_day.py', tmp_path / 'out', *arguments)
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_gpu_that_is_not_there_is_said_first(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_tool('gpu_day.py', tmp_path / 'out')
    assert 'torch sees no GPU here: rehearse with --device cpu --tiny' in capsys.readouterr().err


def test_the_list_needs_no_gpu(tmp_path, capsys):
    run_tool('gpu_day.py', 'OUT', '--list')
    printed = capsys.readouterr().out
    assert all(f'\n{name} ' in f'\n{printed}' for name in stages.NAMES)
    assert 'python tools/gpu_day.py OUT --minutes 9.5 --stage machine tests vit' in printed


def test_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(lacks, 'find_spec', lambda name: None)
    monkeypatch.setattr(images, 'PLACES', ())
    found = '\n'.join(lacks.find('cpu', None, tmp_path, 2))
    for name in ('a GPU', 'mmpretrain', 'pytest', '16 cores: there are 2', 'Fashion-MNIST'):
        assert name in found


def test_images_are_found_where_they_are(tmp_path):
    folder = images.generate(tmp_path / 'idx', 40)
    assert images.find_images(str(folder)) == ('fashion-mnist', folder)
    assert read_idx(str(folder / 'train-images-idx3-ubyte')).shape == (40, 28, 28)
    assert read_idx(str(folder / 't10k-labels-idx1-ubyte')).tolist() == list(range(10))
    (tmp_path / 'cifar-10-batches-bin').mkdir()
    (tmp_path / 'cifar-10-batches-bin' / 'data_batch_1.bin').touch()
    assert images.find_images(str(tmp_path)) == ('cifar-10', tmp_path / 'cifar-10-batches-bin')


def test_generated_classes_are_directions():
    """The strongest frequency of an image lies in the direction of its class."""
    found, labels = images.stripes(200, seed=0)
    power = np.abs(np.fft.fft2(found - found.mean(axis=(1, 2), keepdims=True)))[:, :, :15]
    strongest = power.reshape(200, -1).argmax(axis=1)
    y, x = np.fft.fftfreq(28)[strongest // 15], strongest % 15 / 28
    angle = np.arctan2(y, x) % np.pi
    away = np.abs(angle - labels * np.pi / 10)
    assert (np.minimum(away, np.pi - away) < np.pi / 10).mean() > 0.9


def test_lengths_of_intervals():
    assert profiles.union([(0, 2), (1, 3), (5, 6), (5.5, 5.7)]) == 4
    assert profiles.union([]) == 0


def test_a_profile_counts_what_blocks():
    x = torch.randn(64, 64)
    found = profiles.profiled(lambda: [x @ x, x.sum().item(), x[0, 0].item()], 'cpu')
    assert found['syncs'] == {'aten::_local_scalar_dense': 2}
    assert 'aten::mm' in [row['name'] for row in found['top']]
    assert len(found['top']) <= 10 and sum(row['share'] for row in found['top']) <= 1 + 1e-9


class Report:
    """What pytest hands a plugin."""

    def __init__(self, nodeid: str, outcome: str, when: str = 'call') -> None:
        self.nodeid, self.outcome, self.when, self.duration, self.longrepr = nodeid, outcome, when, 0.1, 'why'
        self.passed = outcome == 'passed'


def test_outcomes_of_tests_are_kept_one_by_one(tmp_path):
    notes = Notes(Journal(tmp_path / 'tests.jsonl', 'first'), 'marked gpu')
    recorder = marked_tests.Recorder(notes)
    for name, outcome in (('a', 'passed'), ('b', 'failed'), ('c', None)):
        recorder.pytest_runtest_logstart(name, ())
        if outcome:
            recorder.pytest_runtest_logreport(Report(name, outcome))
    recorder.pytest_runtest_logreport(Report('a', 'passed', 'teardown'))
    again = marked_tests.Recorder(Notes(Journal(tmp_path / 'tests.jsonl', 'second'), 'marked gpu'))
    assert [again._is_over(name) for name in 'abcd'] == [True, True, False, False]
    again.pytest_runtest_logstart('c', ())  # and the process dies again
    last = marked_tests.Recorder(Notes(Journal(tmp_path / 'tests.jsonl', 'third'), 'marked gpu'))
    assert last._is_over('c')
    found = marked_tests.summary(last.notes.known)
    assert found['counts'] == dict(passed=1, failed=1, skipped=0, died=1)
    assert found['failed'] == dict(b='why', c='the process died')


def test_all_marked_files_are_found():
    found = marked_tests.files_with_marks()
    assert {'tests/test_step.py', 'tests/test_augment/test_fused.py'} <= set(found)


def test_a_report_of_nothing_says_what_is_open(day):
    write_report(day)
    text = (day.out / 'report.md').read_text()
    assert text.count('| open') == 6
    assert all(f'- {name}: not begun' in text for name in stages.NAMES)
    assert json.dumps(text)
