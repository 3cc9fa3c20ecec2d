"""Many byte strings in two arrays."""

import pickle

import numpy as np
import pytest

from mocox.datasets.packed_paths import PackedPaths

PATHS = [b'a.png', b'', b'b/' + b'x' * 300, b'\xff\n.png', 'ä'.encode()]


def test_it_holds_what_was_put_in():
    paths = PackedPaths(iter(PATHS))
    assert len(paths) == 5
    assert list(paths) == PATHS == [paths[index] for index in range(5)]
    assert list(pickle.loads(pickle.dumps(paths))) == PATHS
    assert list(PackedPaths.from_arrays(*paths.to_arrays())) == PATHS
    assert not list(PackedPaths())
    for index in (-1, 5):
        with pytest.raises(IndexError, match=str(index)):
            paths[index]


def test_a_long_path_costs_its_own_length_only():
    paths = PackedPaths([b'x' * 4000] + [b'y' * 10] * 10_000)
    data, ends = paths.to_arrays()
    assert data.nbytes + ends.nbytes == 4000 + 10_000 * 10 + 8 * 10_002


@pytest.mark.parametrize(
    'ends',
    [np.array([0, 3, 2]), np.array([0, 9]), np.array([1, 2]), np.array([], np.int64), np.array([0.0, 1.0])],
    ids=['descending', 'too long', 'no first 0', 'empty', 'floats'],
)
def test_arrays_that_do_not_fit(ends):
    with pytest.raises(ValueError, match='ends'):
        PackedPaths.from_arrays(np.zeros(5, np.uint8), ends)
