"""The short form of ``tools/fault_injection.py``, and that it would notice."""

import random

import pytest
import torch

from lab import fault_injection
from lab.fault_injection import CASES, FAULTS, compare, faults_for, format_report


@pytest.mark.slow
@pytest.mark.dist
def test_killed_trainings_end_in_the_same_weights(tmp_path):
    report = fault_injection.run(kills=6, seed=1, work_dir=str(tmp_path / 'faults'))
    assert report['problems'] == []
    rows = report['faults'].values()
    assert sum(row['injected'] for row in rows) == sum(row['survived'] for row in rows) == 6
    assert (tmp_path / 'faults' / 'fault_injection.json').is_file()
    assert 'All ended in exactly the weights' in format_report(report)


def test_faults_that_fit():
    one, queue, two = CASES.values()
    assert set(faults_for(two)) == set(FAULTS)
    assert set(FAULTS) - set(faults_for(one)) == {'SIGKILL to one of two processes', 'SIGTERM to one of two processes'}
    assert 'SIGKILL to a loader worker' not in faults_for(queue)


def content(weight: float = 1.0, step: float = 2.0, loss: float = 3.0, run: str = 'a') -> dict:
    history = type('H', (), dict(_log_history=[loss]))()
    return dict(
        state_dict=dict(w=torch.tensor([weight])),
        optimizer=dict(state={0: dict(step=torch.tensor(step))}),
        param_schedulers=[dict(last_step=1)],
        exact_resume=dict(run=run, generators=[dict(torch=torch.zeros(2))]),
        message_hub=dict(log_scalars={'train/loss': history}),
    )


@pytest.mark.parametrize(
    ('change', 'difference'),
    [
        (dict(weight=1.0 + 2**-23), 'state_dict.w'),
        (dict(step=3.0), 'optimizer.state.0.step'),
        (dict(loss=3.5), 'the history of the loss'),
    ],
)
def test_differences_are_named(change, difference):
    assert list(compare(content(), content(run='b'))) == []
    assert list(compare(content(), content(**change))) == [difference]


def test_damage_always_changes_the_file(tmp_path):
    attempt = fault_injection.Attempt([], tmp_path, tmp_path / 'attempt')
    path = tmp_path / 'iter_1.pth'
    for seed in range(8):
        path.write_bytes(bytes(range(1, 256)) * 40)
        before = path.read_bytes()
        fault_injection.kill_and_damage(attempt, random.Random(seed))
        assert path.read_bytes() != before


def test_damage_twice_in_a_row_reaches_the_file_before(tmp_path):
    attempt = fault_injection.Attempt([], tmp_path, tmp_path / 'attempt')
    for name in ('iter_1.pth', 'iter_2.pth'):
        (tmp_path / name).write_bytes(bytes(range(1, 256)))
    (tmp_path / 'iter_2.pth').write_bytes(b'')  # the first time
    fault_injection.kill_and_damage(attempt, random.Random(0))
    assert (tmp_path / 'iter_1.pth').read_bytes() != bytes(range(1, 256))


def test_damage_done_before_training_began_explains_where_the_next_start_begins(tmp_path, monkeypatch):
    """Saved at 14, both files damaged, the second while the program was starting: 0 is right."""
    begins, codes = iter([[0], [], [], [0]]), iter([1, 1, 1, 0])

    class Attempt:
        def __init__(self) -> None:
            self.begun = next(begins)

        def wait_until(self, happens):
            return True

        def end(self):
            return [next(codes)]

        def notes(self, kind):
            return {'begins': self.begun, 'done': self.begun and [17], 'saved': self.begun and [14]}[kind]

    faults = iter(['SIGKILL', fault_injection.DAMAGE, 'SIGKILL', ''])
    monkeypatch.setattr(fault_injection, 'FAULTS', dict.fromkeys(FAULTS, lambda *_: None))
    campaign = fault_injection._Campaign(tmp_path, None, random.Random(0), 3)
    monkeypatch.setattr(campaign, '_draw_fault', lambda *_: next(faults))
    monkeypatch.setattr(campaign, '_moment', lambda *_: None)
    monkeypatch.setattr(campaign, 'start', lambda *_: Attempt())
    monkeypatch.setattr(campaign, '_compare', lambda *_: None)
    (tmp_path / 'run').mkdir()
    campaign.train_disturbed('ResNet with a queue', tmp_path / 'run', tmp_path / 'epoch_3.pth', 1.0)
    assert campaign.problems == []
