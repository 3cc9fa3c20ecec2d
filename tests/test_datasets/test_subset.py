"""Fixed stratified parts of a labelled set, as indices and as list files."""

import numpy as np
import pytest

from mocox.datasets import ImageFiles, stratified_subset
from tests.support.tiny_run import run_tool
from tests.test_downstream_configs.miniature import write_image

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [200, 100, 7]))


def test_every_class_has_its_fraction_and_at_least_one_image():
    chosen = stratified_subset(LABELS, fraction=0.05)
    assert np.bincount(LABELS[chosen]).tolist() == [10, 5, 1]
    assert np.all(np.diff(chosen) > 0)
    assert np.array_equal(chosen, stratified_subset(LABELS, fraction=0.05))
    assert not np.array_equal(chosen, stratified_subset(LABELS, fraction=0.05, seed=1))
    assert stratified_subset(LABELS, fraction=1.0).tolist() == list(range(len(LABELS)))


def test_larger_parts_contain_smaller_ones_and_classes_do_not_influence_each_other():
    one, ten = stratified_subset(LABELS, fraction=0.01), stratified_subset(LABELS, fraction=0.1)
    assert set(one) < set(ten)
    without_2 = np.nonzero(LABELS != 2)[0]
    alone = without_2[stratified_subset(LABELS[without_2], per_class=3)]
    assert set(alone) == {i for i in stratified_subset(LABELS, per_class=3) if LABELS[i] != 2}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(), 'one of fraction and per_class'),
        (dict(fraction=0.1, per_class=1), 'one of fraction and per_class'),
        (dict(fraction=1.5), r'fraction must lie in \(0, 1\], got 1.5'),
        (dict(fraction=0.0), 'fraction'),
        (dict(per_class=0), 'per_class must be at least 1'),
        (dict(per_class=8), 'class 2 has 7 images.*per_class=8'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        stratified_subset(LABELS, **options)


def test_the_tool_writes_a_list_that_image_files_reads(tmp_path, capsys):
    for level, name in enumerate(['ant', 'bee', 'cow']):
        for number in range(10):
            write_image(tmp_path / 'data' / 'train' / name / f'{number} x.png', level=level)
    run_tool(
        'make_subset.py', tmp_path / 'data' / 'train', '--fraction', 0.2, '--out', tmp_path / 'data' / '20percent.txt'
    )
    assert '6 of 30 images, 3 classes' in capsys.readouterr().out
    crops = dict(type='CenterCrop', size=8, resize=8)
    images = ImageFiles(str(tmp_path / 'data'), crops, 'train', list_file='20percent.txt', with_labels=True)
    assert len(images) == 6
    assert [int(images[i]['inputs'][0].unique()) for i in range(6)] == images.labels.tolist() == [0, 0, 1, 1, 2, 2]
