import pytest

from mocox.datasets.classes import Labelling, class_difference, describe_labels


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
    assert class_difference(Labelling(ours), Labelling(theirs)) == words


FOLDERS = Labelling(['ant', 'bee', 'cat'], [0, 1, 2])


@pytest.mark.parametrize(
    ('ours', 'theirs', 'words'),
    [
        (FOLDERS, Labelling(None, [0, 1, 2]), ''),
        (FOLDERS, Labelling(None, [2]), ''),  # the test may lack classes
        (
            FOLDERS,
            Labelling(None, [1, 2, 3]),
            'only for test: label 3; training has labels 0 to 2, test labels 1 to 3. '
            'Subtract 1 from the labels for test, so that they count as those for training',
        ),
        (
            Labelling(None, [1, 2, 3]),
            FOLDERS,
            'only for test: label 0; training has labels 1 to 3, test labels 0 to 2. '
            'Subtract 1 from the labels for training, so that they count as those for test',
        ),
        (
            Labelling(None, [0, 2]),
            Labelling(None, [0, 1, 7]),
            'only for test: label 1, 7; training has labels 0 to 2 (2 of them), test labels 0 to 7 (3 of them)',
        ),
        (Labelling(None, [0]), Labelling(None, [5]), 'only for test: label 5; training has label 0, test label 5. '
         'Subtract 5 from the labels for test, so that they count as those for training'),
        (Labelling(['a', 'b'], [0]), Labelling(['a', 'b'], [0, 1]), 'only for test: label 1; '
         'training has label 0, test labels 0 to 1'),
        (Labelling(['a', 'b']), Labelling(['a', 'b'], [0, 1]), ''),  # a checkpoint tells names only
        (Labelling(None, None), Labelling(None, [0, 1]), ''),  # an old one nothing
        (
            FOLDERS,
            Labelling(None, [0, 1, 2], dict(ant={2}, bee={1}, cat={0})),  # another order
            "images in the folder 'ant' have label 2 for test and 0 for training",
        ),
        (
            Labelling(None, [0, 1, 2], dict(cat={1})),
            FOLDERS,
            "images in the folder 'cat' have label 1 for training and 2 for test",
        ),
        (FOLDERS, Labelling(None, [0, 1, 2], dict(ant={1, 2}, elsewhere={1})), ''),  # a folder of no one class
    ],
)  # fmt: skip
def test_labels_without_names_are_compared_too(ours, theirs, words):
    assert class_difference(ours, theirs) == words


def test_names_that_will_be_translated_may_be_fewer_and_in_another_order():
    ours = Labelling(['a', 'b', 'c'])
    assert class_difference(ours, Labelling(['c', 'a']), by_name=True) == ''
    assert class_difference(ours, Labelling(['c', 'x']), by_name=True) == "only for test: ['x']"


def test_labels_in_words():
    assert [describe_labels(labels) for labels in ([4], [0, 1], [1, 5])] == [
        'label 4', 'labels 0 to 1', 'labels 1 to 5 (2 of them)']  # fmt: skip


def test_names_that_look_alike_are_named_with_the_cure():
    words = class_difference(Labelling(['caf\u00e9', 'tea']), Labelling(['cafe\u0301', 'tea']))
    assert 'only for test' in words
    assert 'convmv' in words
    assert 'convmv' not in class_difference(Labelling(['cafe', 'tea']), Labelling(['caf\u00e9', 'tea']))
