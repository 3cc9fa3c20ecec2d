"""The machine on the readings of real runs on Fashion-MNIST, whose commands and causes docs/monitoring.md names."""

import json
from math import nan
from pathlib import Path

import pytest

from mocox.monitors.learning_state import TrainingState
from mocox.monitors.readings import (
    AT_CHANCE,
    BELOW,
    COLLAPSED,
    DIVERGING,
    LEARNING,
    SATURATED,
    SHORTCUT,
    STATES,
    WARMING,
    Plain,
    Reading,
)
from mocox.monitors.summary import final_verdict

RUNS = Path(__file__).parent.parent / 'data' / 'monitors'
IMAGES = 510  # plain ones
LEARNED, NOT_LEARNED = 'The run learned', 'The run did not learn'

# The states with their first iterations, and how the summary begins.
EXPECTED = {
    'v3': ([(AT_CHANCE, 1), (LEARNING, 39)], LEARNED),
    'v2': ([(WARMING, 1), (LEARNING, 39)], LEARNED),
    'vit': ([(AT_CHANCE, 1), (LEARNING, 15)], LEARNED),
    'v3_batch_32': ([(AT_CHANCE, 1), (LEARNING, 102)], LEARNED),
    'v3_batch_8': ([(AT_CHANCE, 1), (LEARNING, 573)], 'The run has learned little'),
    'v2_long_queue': ([(WARMING, 1)], 'The run ended before its queue was full'),
    'v3_rate_too_low': ([(AT_CHANCE, 1)], NOT_LEARNED),
    'v3_no_augmentation': ([(AT_CHANCE, 1), (LEARNING, 18), (SHORTCUT, 114)], 'The loss fell, perhaps by a shortcut'),
    'v3_solved': ([(LEARNING, 1), (SATURATED, 171)], LEARNED),
    'v2_rate_x333': ([(WARMING, 1), (LEARNING, 39), (COLLAPSED, 45)], NOT_LEARNED),
    'vit_rate_x100_conv': ([(AT_CHANCE, 1), (LEARNING, 12), (COLLAPSED, 36)], NOT_LEARNED),
    'vit_decay_x1000': ([(AT_CHANCE, 1), (LEARNING, 15), (COLLAPSED, 51)], NOT_LEARNED),
    'vit_rate_x100': ([(AT_CHANCE, 1), (LEARNING, 12)], 'The loss fell, but k-NN did not rise'),
    'v3_rate_x1000': ([(AT_CHANCE, 1), (DIVERGING, 81), (AT_CHANCE, 120)], NOT_LEARNED),
    'v2_no_momentum': ([(WARMING, 1), (LEARNING, 39), (DIVERGING, 135)], NOT_LEARNED),
    'v3_trained_rate_x333': ([(LEARNING, 1), (DIVERGING, 6)], NOT_LEARNED),
    'v3_crops_of_2_percent': ([(AT_CHANCE, 1), (BELOW, 123)], 'The run has lost what it started from'),
}


def replay(name: str) -> tuple[list[tuple[str, int]], str]:
    """Feed the machine as the run did."""
    run = json.loads((RUNS / f'{name}.json').read_text())
    machine = TrainingState(run['patience'])
    machine.warm, machine.knn_chance = run['warm'], run['knn_chance']
    measured, seen = iter([*run['plain'], [10**9]]), []
    later = next(measured)
    for row in run['readings']:
        reading = Reading(**dict(zip(run['columns'], [nan if x is None and i < 3 else x for i, x in enumerate(row)])))
        while later[0] <= reading.iteration:
            machine.measured(later[0], Plain(IMAGES, *later[1:]))
            later = next(measured)
        state = machine.update(reading).state
        if not seen or seen[-1][0] != state:
            seen.append((state, reading.iteration))
    return seen, final_verdict(machine, nan, run['knn_chance'])


@pytest.mark.parametrize('name', EXPECTED)
def test_the_words_of_a_real_run(name):
    states, head = EXPECTED[name]
    seen, text = replay(name)
    assert seen == states
    assert text.startswith(head)


def test_every_state_was_seen_in_a_real_run():
    assert {state for states, _ in EXPECTED.values() for state, _ in states} == {*STATES}
    assert {path.stem for path in RUNS.glob('*.json')} == set(EXPECTED)


@pytest.mark.parametrize('name', [name for name in EXPECTED if name != 'v2_long_queue'])  # it ends before the answer
def test_what_is_said_to_have_learned_is_better_by_scikit_learn(name):
    """k-NN on the test images, of the weights before the first and after the last step."""
    found = json.loads((RUNS / f'{name}.json').read_text())['by_scikit_learn']
    assert (EXPECTED[name][1] == LEARNED) == (found['end']['knn'] > found['start']['knn'])
    assert (EXPECTED[name][0][-1][0] == COLLAPSED) == (found['end']['rank'] < 2)
