"""Published numbers stand beside a result only if the file comes from that recipe and the images are that benchmark."""

from types import SimpleNamespace

import pytest

from mocox.evaluation.published import find_number, method_of, published_numbers, published_table
from mocox.evaluation.report import rows_of
from mocox.evaluation.task import Result

HEADS = {
    'MoCo v1': ['neck.fc.weight'],
    'MoCo v2': ['neck.mlp.0.weight'],
    'MoCo v3': ['neck.fc0.weight', 'neck.fc1.weight', 'head.predictor.fc0.weight'],
    'MoBY': ['neck.fc0.weight', 'head.predictor.fc0.weight', 'queue1.keys'],
    None: ['head.fc.weight'],
}


def checkpoint(method=None, arch='ResNet-50', kind='self-supervised', **meta):
    names = HEADS[method]
    return SimpleNamespace(state_dict=dict.fromkeys(names, [0] * 8), arch={'name': arch}, kind=kind, meta=meta)


def numbers(found, protocol, setting=''):
    number = find_number(published_numbers(found), protocol, setting)
    return number and number[0]


@pytest.mark.parametrize('method', HEADS)
def test_method_is_told_by_the_heads(method):
    assert method_of(checkpoint(method)) == method


def test_the_same_name_means_another_recipe_for_another_method():
    meta = dict(recipe='resnet50_200e', epochs=200)
    assert numbers(checkpoint('MoCo v1', **meta), 'linear') == 60.6
    assert numbers(checkpoint('MoCo v2', **meta), 'linear') == 67.7
    assert numbers(checkpoint(None, **meta), 'linear') is None  # one of three, and nothing says which
    assert numbers(checkpoint('MoCo v3', **meta), 'linear') is None


@pytest.mark.parametrize(
    ('recipe', 'epochs', 'arch', 'expected'),
    [
        ('vit-small', 300, 'ViT-S/16, 12 blocks', 73.2),
        ('vit_small', 300, 'ViT-S/16, 12 blocks', 73.2),
        ('vit-small', 100, 'ViT-S/16, 12 blocks', None),
        ('vit-small_custom', 300, 'ViT-S/16, 12 blocks', None),
        ('vit-small', 300, 'ViT of width 64, patch 4', None),
    ],
)
def test_recipe_epochs_and_architecture_must_agree(recipe, epochs, arch, expected):
    assert numbers(checkpoint('MoCo v3', arch, recipe=recipe, epochs=epochs), 'linear') == expected


def test_settings_have_their_own_numbers():
    v2 = checkpoint('MoCo v2', recipe='resnet50', epochs=200)
    assert numbers(v2, 'knn', 'k=20') == 55.7
    assert numbers(v2, 'knn', 'k=7') is None
    assert numbers(v2, 'lowshot', '96 per class') == 82.23


@pytest.mark.parametrize(('benchmark', 'expected'), [('ImageNet-1k', 67.7), ('VOC07', None), (None, None)])
def test_numbers_are_shown_for_their_benchmark_only(benchmark, expected):
    rows = published_numbers(checkpoint('MoCo v2', recipe='resnet50', epochs=200))
    (row,) = rows_of([Result('linear', 'lr=30', 'top-1', 12.3456, 10, None)], rows, benchmark)
    assert (row['published'], row['value']) == (expected, 12.35)


def test_rows_are_complete():
    for row in published_table():
        assert row.numbers
        assert all(0 < number < 100 for number in row.numbers.values())
