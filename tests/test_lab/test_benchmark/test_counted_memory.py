"""Memory counted on a pretended GPU: the allocator's rules by hand, the count against the model of memory."""

import pytest

from lab.benchmark import counted_memory, memory
from lab.benchmark.allocator import MIB, Allocator, Event
from lab.benchmark.counted_memory import compare, count
from lab.benchmark.mocox_contender import read_config
from lab.benchmark.step import Setting
from tests.support.pretended import without_accelerator
from tests.test_lab.test_benchmark.tiny import MEDIUM_VIT, VIT


def played(*steps: tuple[str, float | None], expandable: bool = False) -> tuple[float, float]:
    """MiB at the peak and from the card, for tensors that are made (MiB) and freed (None), by name."""
    allocator = Allocator(expandable)
    allocator.replay(Event(ord(name), None if size is None else int(size * MIB)) for name, size in steps)
    return allocator.peak / MIB, allocator.reserved / MIB


@pytest.mark.parametrize(
    ('steps', 'peak', 'reserved', 'expandable'),
    [
        ([('a', 1e-6)], 512 / MIB, 2, 2),  # a byte takes 512, from a segment of 2 MiB
        ([('a', 1), ('b', 1)], 2, 2, 2),
        ([('a', 1), ('b', 1.5)], 2.5, 22, 22),  # small and large ones do not mix
        ([('a', 3), ('b', 9)], 12, 20, 20),
        ([('a', 11)], 12, 12, 20),  # a segment of its own is taken in 2 MiB: 1 MiB is not cut off
        ([('a', 9), ('b', 9), ('a', None), ('b', None), ('c', 9.5)], 18, 20, 20),  # neighbours have joined
        ([('a', 9), ('b', 9), ('a', None), ('c', 9.5)], 18.5, 40, 40),  # a hole of 9 does not hold 9.5
        (
            [('a', 20), ('b', 20), ('a', None), ('b', None), ('c', 30)],
            40,
            70,
            40,
        ),  # a segment that can grow is one hole
        ([('a', 15), ('a', None), ('b', 30)], 30, 46, 40),  # ... and its last part grows
    ],
)
def test_the_allocators_rules(steps, peak, reserved, expandable):
    assert played(*steps) == pytest.approx((peak, reserved))
    assert played(*steps, expandable=True)[1] == expandable


def test_what_is_freed_twice_is_an_error():
    with pytest.raises(KeyError):
        played(('a', 1), ('a', None), ('a', None))


CASES = ((16, None), (32, 16))
OPTIONS = MEDIUM_VIT | {'model.backbone.arch.num_layers': 2}


def counts() -> list[dict]:
    return [count(VIT, batch, 96, OPTIONS | {'model.chunk_size': chunk}) for batch, chunk in CASES]


@pytest.mark.slow  # with the start of a process without accelerator, which the tests of pretended steps share
def test_the_model_of_memory_agrees_with_the_count():
    """Of what a step adds to weights, moments and views."""
    for (batch, chunk), found in zip(CASES, without_accelerator(counts), strict=True):
        config = memory.with_chunks(read_config(VIT, 96, OPTIONS), chunk)
        computed = memory.compute(config, Setting(batch, 96, 'cuda'), half=True)
        assert computed - found['static'] == pytest.approx(found['live'] - found['static'], rel=0.1)
        assert found['live'] <= found['allocated'] <= found['live'] * 1.01 <= found['reserved'] * 1.01


def test_the_table(monkeypatch):
    found = dict(static=0, live=0, allocated=4 * 2**30, reserved=5 * 2**30, expandable=4.5 * 2**30, at_peak='aten.mm')
    monkeypatch.setattr(counted_memory, 'count_elsewhere', lambda *args: found)
    monkeypatch.setattr(memory, 'compute', lambda *args, half: 5 * 2**30)
    lines = compare([VIT], 64, [16], 224).splitlines()
    numbers = ['5.00', '4.00', '+25.0%', '5.00', '4.50', 'aten.mm', '|']
    assert [line.replace(' | ', ' ').split()[2:] for line in lines[-2:]] == [
        [size, *numbers] for size in ('whole', '16')
    ]
