import pytest

from mocox.datasets.classes import class_difference


@pytest.mark.parametrize(
    ('ours', 'theirs', 'words'),
    [
        (['a', 'b'], ('a', 'b'), ''),
        (None, ['a'], ''),  # not known
        (['a'], [], ''),
        (['a', 'b'], ['b', 'a'], 'in another order'),
        (['a', 'b'], ['a'], "only for training: ['b']"),
        (['a', 'b'], ['a', 'c'], "only for training: ['b']; only for test: ['c']"),
        (list('gfedcba'), ['x'], "only for training: ['a', 'b', 'c', 'd', 'e']; only for test: ['x']"),
    ],
)
def test_class_names_are_compared_in_the_order_of_their_labels(ours, theirs, words):
    assert class_difference(ours, theirs) == words
