"""The queue against a Python deque, for batches of every size."""

from collections import deque

import pytest
import torch

from mocox.models.key_queue import KeyQueue


@pytest.mark.parametrize('batches', [[3, 3, 3], [5, 2, 4, 7], [8], [16, 1], [9], [17, 3], [1] * 20])
def test_equals_a_deque(batches):
    length = 8
    queue, expected = KeyQueue(length, 2), deque(maxlen=length)
    number = 0
    for n in batches:
        rows = torch.arange(number, number + n).float()[:, None].repeat(1, 2)
        number += n
        queue.enqueue(rows)
        expected.extend(rows[:, 0].tolist())
    assert int(queue.filled) == min(number, length)
    assert int(queue.pointer) == number % length
    oldest_first = queue.keys[0].roll(-int(queue.pointer))
    assert oldest_first[length - len(expected) :].tolist() == list(expected)


def test_starts_with_unit_vectors_that_count_as_unfilled():
    queue = KeyQueue(100, 16)
    torch.testing.assert_close(queue.keys.norm(dim=0), torch.ones(100))
    assert int(queue.filled) == 0


def test_is_part_of_the_state():
    queue, other = KeyQueue(8, 2), KeyQueue(8, 2)
    queue.enqueue(torch.ones(3, 2))
    other.load_state_dict(queue.state_dict())
    for a, b in zip(queue.buffers(), other.buffers(), strict=True):
        assert torch.equal(a, b)


def test_a_state_without_count_is_full():
    queue = KeyQueue(8, 2)
    queue.load_state_dict({k: v for k, v in KeyQueue(8, 2).state_dict().items() if k != 'filled'})
    assert int(queue.filled) == 8


@pytest.mark.parametrize(('length', 'width'), [(0, 2), (2, 0)])
def test_bad_sizes(length, width):
    with pytest.raises(ValueError, match=f'queue of {length} keys of width {width}'):
        KeyQueue(length, width)


def test_a_key_that_is_not_finite_replaces_nothing():
    queue = KeyQueue(5, 3)
    before = queue.keys.clone()
    k = torch.nn.functional.normalize(torch.randn(3, 3), dim=1)
    k[1, 2] = torch.nan
    queue.enqueue(k)
    assert torch.equal(queue.keys[:, [0, 2]], k[[0, 2]].T)
    assert torch.equal(queue.keys[:, [1, 3, 4]], before[:, [1, 3, 4]])
    assert int(queue.pointer) == 3
