import time

import pytest

from lab.benchmark.timing import Timings, interleave


def test_rounds_are_interleaved_and_the_first_is_dropped():
    calls = []
    times = interleave(dict(a=lambda: calls.append('a'), b=lambda: calls.append('b')), rounds=3)
    assert calls == ['a', 'b'] * 4
    assert [len(seconds) for seconds in times.seconds.values()] == [3, 3]


def test_a_call_takes_at_least_the_time_it_sleeps():
    times = interleave(dict(sleep=lambda: time.sleep(0.02)), rounds=1)
    assert times.median('sleep') >= 0.02


def test_the_speedup_is_the_median_of_the_ratios_of_each_round():
    times = Timings(dict(ours=[1.0, 2.0, 4.0], theirs=[3.0, 8.0, 4.0]))
    assert times.speedup('ours', 'theirs') == (3.0, 1.0, 4.0)  # of the medians: 2
    assert times.median('ours') == 2.0
    assert times.spread('ours') == (1.0, 4.0)


def test_no_round_is_refused():
    with pytest.raises(ValueError, match='rounds=0'):
        interleave({}, 0)
