"""The machine on made-up runs of every kind; each number below is what such a run would show."""

import json
from math import inf, nan

import numpy as np
import pytest

from mocox.monitors.learning_state import TrainingState
from mocox.monitors.readings import (
    AT_CHANCE,
    COLLAPSED,
    DIVERGING,
    LEARNING,
    SATURATED,
    SHORTCUT,
    STATE,
    WARMING,
    Reading,
)
from mocox.monitors.summary import final_verdict

CHANCE = 8.0


def run(*readings: dict, patience: int = 200, machine: TrainingState | None = None):
    """Feeds readings ten iterations apart; returns the machine and all verdicts."""
    machine = machine or TrainingState(patience)
    start = machine.window[-1].iteration if machine.window else 0
    verdicts = []
    for number, values in enumerate(readings, start=1):
        values = dict(
            dict(progress=0.0, feature_std=0.5, effective_rank=20.0, negative_cosine=0.0, top1=0.01), **values
        )
        loss = values.pop('loss', CHANCE * (1 - values['progress'] / 200))
        verdicts.append(machine.update(Reading(start + 10 * number, loss, **values)))
    return machine, verdicts


def ramp(name: str, start: float, end: float, num: int = 30, **others) -> list[dict]:
    return [{name: start + (end - start) * i / (num - 1), **others} for i in range(num)]


def states(verdicts) -> list[str]:
    """The sequence of states without repetitions."""
    return [v.state for i, v in enumerate(verdicts) if i == 0 or v.state != verdicts[i - 1].state]


def test_a_healthy_run():
    machine, verdicts = run(*[dict(progress=p, top1=p / 100, knn=0.3 + p / 200) for p in range(0, 60, 2)])
    assert states(verdicts) == [AT_CHANCE, LEARNING]
    assert not machine.needs_help(300)
    assert '57 % of the way' in verdicts[-1].message or '56 % of the way' in verdicts[-1].message
    assert verdicts[-1].causes == []
    assert final_verdict(machine, CHANCE, 0.1).startswith('The run learned: loss ')
    assert 'k-NN from 30 to 59 %, the largest class alone is 10 %' in final_verdict(machine, CHANCE, 0.1)


def test_stuck_at_chance():
    machine, verdicts = run(*[dict(progress=(-1) ** i) for i in range(19)])
    assert verdicts[-1].message == 'at chance for 190 iterations, as every run is at first'
    assert not machine.needs_help(190)
    _, more = run(*[dict(progress=0.0)] * 5, machine=machine)
    assert machine.needs_help(240)
    assert more[-1].message == 'at chance for 240 iterations'
    assert any('base_momentum=0.99' in cause for cause in more[-1].causes)
    text = final_verdict(machine, CHANCE)
    assert text.startswith('The run did not learn')
    assert 'Usual causes: there were few steps: a few hundred images take hundreds of epochs; the learning rate' in text


def test_noise_around_the_threshold_is_no_change():
    _, verdicts = run(*ramp('progress', 0, 9, 10), *[dict(progress=p) for p in (3, 7, 2, 6, 3, 8, 4, 6)])
    assert states(verdicts) == [AT_CHANCE, LEARNING]


def test_worse_than_chance_at_first_is_no_divergence():
    """Random queries in few dimensions lose to equal ones."""
    _, verdicts = run(*ramp('progress', -30, 20, 30))
    assert states(verdicts) == [AT_CHANCE, LEARNING]


def test_a_queue_that_fills():
    filling = [dict(fill=i / 10, progress=nan if i < 2 else 400 / i, loss=5 + i / 5) for i in range(10)]
    machine, verdicts = run(*filling, *ramp('progress', 4, 30, 10))
    assert states(verdicts) == [WARMING, LEARNING]  # and what seemed progress before is not missed
    assert '90 % full' in verdicts[9].message
    assert not machine.worst


def test_a_young_run_with_a_queue_is_at_chance_without_a_fault():
    machine, verdicts = run(dict(fill=0.5), dict(fill=1.0), *[dict(progress=1.0)] * 4)
    assert verdicts[2].message == 'at chance, as every run is at first'
    assert verdicts[-1].message == 'at chance for 30 iterations, as every run is at first'
    assert verdicts[-1].causes == []
    _, more = run(*[dict(progress=20.0)] * 3, *[dict(progress=0.0)] * 6, machine=machine)
    assert states(more)[-2:] == [LEARNING, AT_CHANCE]
    assert more[-1].message == 'at chance again for 20 iterations'
    assert more[-1].causes


def test_ended_before_the_queue_was_full():
    machine, _ = run(dict(fill=0.1), dict(fill=0.2))
    assert final_verdict(machine, CHANCE).startswith('The run ended before its queue was full')


def test_a_run_that_forgets_is_diverging():
    """MoCo v2 with a learning rate 100 times too large: top-1 rises, the loss leaves chance, k-NN falls to chance."""
    machine = TrainingState()
    machine.knn_chance = 0.1
    knns = [0.47, 0.34, 0.31, 0.37, 0.27, 0.28, 0.23, 0.14, 0.23, 0.19, 0.14, 0.13, 0.14, 0.12, 0.11]
    _, verdicts = run(*[dict(progress=15.0 - i, top1=0.9, knn=knn) for i, knn in enumerate(knns)], machine=machine)
    assert states(verdicts) == [LEARNING, DIVERGING]
    assert verdicts[-1].evidence['best_knn'] == pytest.approx(0.352)  # the mean of the first five
    assert 'k-NN 13 % after 35 %' in verdicts[-1].message
    assert 'learning rate' in verdicts[-1].causes[0]
    assert final_verdict(machine, CHANCE).startswith('The run did not learn')


def test_a_dip_of_the_classifier_is_no_divergence():
    knns = [0.25, 0.20, 0.26, 0.32, 0.47, 0.57, 0.52, 0.58, 0.79, 0.62, 0.80, 0.45, 0.74, 0.7]
    _, verdicts = run(*[dict(progress=2.0 * i, knn=knn) for i, knn in enumerate(knns)])
    assert states(verdicts) == [AT_CHANCE, LEARNING]


def test_a_run_that_has_lost_its_progress_has_learned_little():
    machine, _ = run(*[dict(progress=8.0)] * 5, *[dict(progress=2.0)] * 5)
    assert machine.state == LEARNING  # until all of so little is lost
    assert final_verdict(machine, CHANCE).startswith('The run has learned little')
    machine, verdicts = run(*[dict(progress=14.0)] * 5, *[dict(progress=2.0)] * 5)
    assert states(verdicts) == [LEARNING, AT_CHANCE]
    assert final_verdict(machine, CHANCE).startswith('The run did not learn')


def test_a_loss_that_falls_while_knn_stays_flat_is_suspect():
    """MoCo v2 on copies of one image: the age of a key gives it away, and top-1 stays low."""
    machine = TrainingState(patience=200)
    machine.knn_chance = 0.1
    noise = (0.1, 0.04, 0.09, 0.15, 0.1, 0.08, 0.09, 0.09, 0.16, 0.11)
    _, verdicts = run(*[dict(progress=14.0, top1=0.2, knn=knn) for knn in noise], machine=machine)
    assert states(verdicts) == [LEARNING]  # too early to say
    assert final_verdict(machine, CHANCE).startswith('The loss fell, but k-NN did not rise')
    _, verdicts = run(*[dict(progress=14.0, top1=0.2, knn=knn) for knn in noise * 2], machine=machine)
    assert states(verdicts) == [LEARNING, SHORTCUT]
    _, verdicts = run(*[dict(progress=20.0, top1=0.3, knn=0.3)] * 5, machine=machine)
    assert verdicts[-1].state == LEARNING


@pytest.mark.parametrize(('chance', 'first', 'later'), [(0.1, 0.25, 0.35), (0.001, 0.01, 0.02), (0.2, 0.95, 0.96)])
def test_a_classifier_that_gains_a_little_is_not_flat(chance, first, later):
    machine = TrainingState(patience=200)
    machine.knn_chance = chance
    readings = [dict(progress=20.0, knn=first)] * 10 + [dict(progress=20.0, knn=later)] * 40
    assert states(run(*readings, machine=machine)[1]) == [LEARNING]


def test_saturated():
    machine, verdicts = run(*ramp('progress', 0, 80, 20, top1=0.97), *[dict(progress=80.0, top1=0.99)] * 70)
    assert states(verdicts) == [AT_CHANCE, LEARNING, SATURATED]
    assert not machine.needs_help(900)
    assert verdicts[-1].evidence['gain'] < 1
    assert final_verdict(machine, CHANCE).startswith('The run learned')


def test_saturation_that_one_reading_in_two_denies_is_one_state():
    """A reading has 128 images: at 95.5 % half of them are below 95, as in a run that changed its state 51 times."""
    top1 = np.random.default_rng(0).binomial(128, 0.955, 200) / 128
    assert 80 < sum(value < 0.955 for value in top1) < 120
    machine, verdicts = run(*[dict(progress=80.0, top1=float(value)) for value in top1])
    assert states(verdicts) == [LEARNING, SATURATED]
    assert states(run(*[dict(progress=70.0, top1=0.85)] * 30, machine=machine)[1])[-1] == LEARNING


def test_shortcut():
    machine, verdicts = run(*[dict(progress=70.0, top1=0.98, knn=0.26 + 0.01 * (i % 2)) for i in range(30)])
    assert states(verdicts) == [LEARNING, SHORTCUT]
    assert machine.needs_help(300)
    assert verdicts[-1].evidence['contrastive_top1'] == 0.98
    assert 'perhaps by a shortcut' in final_verdict(machine, CHANCE)


@pytest.mark.parametrize(('knn', 'later'), [(0.74, LEARNING), (0.11, SHORTCUT)])
@pytest.mark.parametrize('top1', [0.84, 0.98])
def test_a_warm_start_need_not_rise(knn, later, top1):
    """Trained weights know the classes already, as in a run that went on at 74 %; at the largest class they do not."""
    machine = TrainingState(patience=150)
    machine.warm, machine.knn_chance = True, 0.1
    machine, verdicts = run(*[dict(progress=76.0, top1=top1, knn=knn)] * 45, machine=machine)
    assert states(verdicts)[-1] == later
    head = 'The run learned' if later == LEARNING else 'The loss fell, perhaps'
    assert final_verdict(machine, CHANCE, 0.1).startswith(head)


def test_an_easy_task_with_rising_knn_is_no_shortcut():
    _, verdicts = run(*[dict(progress=70.0, top1=0.98, knn=0.26 + 0.004 * i) for i in range(40)])
    assert SHORTCUT not in states(verdicts)


def test_without_labels_there_is_no_shortcut():
    _, verdicts = run(*[dict(progress=70.0, top1=0.98)] * 40)
    assert SHORTCUT not in states(verdicts)


@pytest.mark.parametrize('signal', [dict(negative_cosine=0.995), dict(feature_std=0.004), dict(effective_rank=1.01)])
def test_collapsed(signal):
    machine, verdicts = run(*ramp('progress', 0, 40), *[dict(progress=35.0, **signal)] * 2)
    assert verdicts[-2].state == LEARNING  # one odd batch is none
    assert verdicts[-1].state == COLLAPSED
    assert verdicts[-1].evidence == signal
    assert machine.needs_help(320)


def test_shrinking_features_at_chance_are_a_collapse():
    shrunk = dict(feature_std=0.04, effective_rank=1.6)
    assert states(run(*[dict()] * 3, *[shrunk] * 3)[1]) == [AT_CHANCE, COLLAPSED]
    assert COLLAPSED not in states(run(*[dict()] * 3, *[dict(shrunk, progress=40.0)] * 6)[1])
    comes_and_goes = [dict(shrunk, feature_std=s) for s in (0.04, 0.04, 0.06, 0.04, 0.07, 0.06)]
    assert states(run(*[dict()] * 3, *comes_and_goes)[1]) == [AT_CHANCE, COLLAPSED]


@pytest.mark.parametrize('value', [nan, inf])
def test_not_a_number_counts_at_once(value):
    machine, verdicts = run(*ramp('progress', 0, 40), dict(loss=value, progress=nan))
    assert verdicts[-1].state == DIVERGING
    assert machine.needs_help(310)


def test_loses_what_it_had_learned():
    machine, verdicts = run(*ramp('progress', 0, 50), *ramp('progress', 48, 5, 10))
    assert states(verdicts) == [AT_CHANCE, LEARNING, DIVERGING]
    assert verdicts[-1].evidence['best_progress'] > 45
    _, recovered = run(*ramp('progress', 10, 60), machine=machine)
    assert recovered[-1].state == LEARNING
    assert 'On the way it was: diverging' in final_verdict(machine, CHANCE)


def test_skipped_steps():
    machine, verdicts = run(*ramp('progress', 0, 40), *[dict(progress=40.0, skipped=2)] * 3)
    assert verdicts[-1].state == DIVERGING
    assert '6 steps were skipped' in final_verdict(machine, CHANCE)


def test_exploding_gradient():
    _, verdicts = run(*ramp('progress', 0, 40, grad_norm=1.0), *[dict(progress=40.0, grad_norm=5000.0)] * 2)
    assert verdicts[-1].state == DIVERGING
    assert verdicts[-1].evidence == dict(grad_norm=5000.0, median_grad_norm=1.0)


def test_resumes_where_it_was():
    first = [*ramp('progress', 0, 30, knn=0.3, top1=0.95), dict(progress=1.0)]
    last = [dict(progress=1.0), *ramp('progress', 1, 30, 20, top1=0.95, knn=0.31)]
    straight, expected = run(*first, *last)
    stopped, _ = run(*first)
    resumed = TrainingState(patience=200)
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
    _, verdicts = run(*last, machine=resumed)
    assert verdicts == expected[len(first) :]
    assert resumed.state_dict() == straight.state_dict()


def test_nothing_read():
    assert 'too short' in final_verdict(TrainingState(), CHANCE)


@pytest.mark.parametrize('share', [0.85, 0.98])
def test_where_the_largest_class_leaves_no_room_a_flat_classifier_means_nothing(share):
    """A run on folders of 98:2 whose features tell ten digits apart at 93 %."""
    machine = TrainingState(patience=200)
    machine.knn_chance = share
    _, verdicts = run(*[dict(progress=40.0, top1=0.95, knn=share)] * 49, machine=machine)
    assert SHORTCUT not in states(verdicts)
    assert final_verdict(machine, CHANCE, share).startswith('The run learned: ')


def test_folders_that_are_no_classes_come_first_where_the_classifier_never_leaves_chance():
    machine = TrainingState(patience=200)
    machine.knn_chance = 0.25
    _, verdicts = run(*[dict(progress=40.0, top1=0.5, knn=0.25)] * 49, machine=machine)
    assert verdicts[-1].message.startswith('shortcut suspected, or folders that are not classes: ')
    assert 'the folders say nothing' in verdicts[-1].causes[0]
    text = final_verdict(machine, CHANCE, 0.25)
    assert text.startswith('The loss fell, perhaps by a shortcut, or the folders are not classes')
    assert 'Usual causes: the folders say nothing' in text
    machine = TrainingState(patience=200)
    machine.knn_chance = 0.25  # here it is above chance, and stays there: the folders do say something
    _, verdicts = run(*[dict(progress=40.0, top1=0.5, knn=0.5)] * 49, machine=machine)
    assert verdicts[-1].message.startswith('shortcut suspected: ')
    assert 'augmentation' in verdicts[-1].causes[0]


def test_features_that_are_alike_from_the_start_are_those_of_images_that_are():
    _, verdicts = run(*[dict(feature_std=0.0)] * 3)
    assert 'black' in verdicts[0].causes[0] and 'black' in verdicts[-1].causes[0]
    _, verdicts = run(*[dict()] * 3, *[dict(feature_std=0.0)] * 3)
    assert 'learning rate' in verdicts[-1].causes[0] and 'black' in verdicts[-1].causes[-1]


@pytest.mark.parametrize('loss', [2.0, nan, inf])
def test_no_nan_in_the_verdict_on_a_loss_of_unknown_levels(loss):
    machine, verdicts = run(*[dict(progress=nan, loss=loss)] * 3)
    text = final_verdict(machine, nan)
    assert 'nan' not in text and 'inf' not in text.replace('infinite', '')
    assert not any('nan' in verdict.message for verdict in verdicts)
    assert text.count('2.000') == (loss == 2.0)


FOREIGN = [
    dict(since='1'), dict(early=1), dict(skipped=True), dict(best_progress='x'), dict(worst='learning'),
    dict(worst=['\x1b[2J']), dict(state='faked'), dict(candidate=5), dict(window=None), dict(window=[5]),
    dict(window=[dict(iteration='1', loss=1.0, progress=0.0)]),
    dict(window=[dict(iteration=1, loss=None, progress=0.0)]),
]  # fmt: skip


@pytest.mark.parametrize('change', FOREIGN, ids=str)
def test_values_of_another_type_are_refused(change):
    state = TrainingState()
    with pytest.raises(ValueError, match='the checkpoint holds'):
        state.load_state_dict({**TrainingState().state_dict(), **change})


def test_a_checkpoint_sets_what_it_may_and_nothing_else():
    made = TrainingState(patience=7)
    for iteration in range(1, 9):
        made.update(Reading(iteration, 2.0 - iteration / 10, 10.0 * iteration, top1=0.5, knn=0.1 * iteration))
    state = TrainingState(patience=7)
    state.load_state_dict({**made.state_dict(), 'update': 'x', 'patience': 10**9, '__class__': 'y', 'unknown': 1})
    assert vars(state) == vars(made)
    assert set(STATE) | {'window', 'start', 'plain'} == set(
        made.state_dict()
    )  # a field that is added must be named there
