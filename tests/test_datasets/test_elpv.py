"""The layout of the package elpv-dataset, written here in miniature."""

import numpy as np
import pytest
from PIL import Image

from mocox.datasets import ELPVImages

CROPS = dict(type='CenterCrop', size=4, resize=4)
PROBABILITIES = ['0.0', '1.0', '0.3333333333333333', '0.6666666666666666', '0.0', '0.0', '0.0', '1.0']


@pytest.fixture
def cells(tmp_path):
    """Cell i is a gray of level i."""
    (tmp_path / 'images').mkdir()
    rows = []
    for i, probability in enumerate(PROBABILITIES):
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / f'images/cell{i:04d}.png')
        rows.append(f'images/cell{i:04d}.png  {probability:20} {"mono" if i % 2 else "poly"}')
    (tmp_path / 'labels.csv').write_text('\n'.join(rows) + '\n')
    return tmp_path


def shown(dataset):
    return [(int(item['inputs'][0].max()), item['label']) for item in dataset]


def test_every_fourth_cell_of_a_class_is_for_the_test(cells):
    """Of class 0 cells 0, 4, 5, 6: the last; of the others there are fewer than four."""
    train, test = (ELPVImages(str(cells), split, CROPS, with_labels=True, channels=1) for split in ('train', 'test'))
    assert shown(train) == [(0, 0), (1, 3), (2, 1), (3, 2), (4, 0), (5, 0), (7, 3)]
    assert shown(test) == [(6, 0)]
    everything = ELPVImages(str(cells), 'all', CROPS)
    assert len(everything) == 8 and 'label' not in everything[0]
    assert train.metainfo['classes'] == ('functional', 'probably functional', 'probably defective', 'defective')


@pytest.mark.parametrize('line', ['images/a.png', 'images/a.png half mono', 'images/a.png 0.5 mono', 'a b c d'])
def test_a_line_that_is_none(cells, line):
    (cells / 'labels.csv').write_text(line + '\n')
    with pytest.raises(ValueError, match=r'labels\.csv.*is not "images/NAME\.png PROBABILITY TYPE"'):
        ELPVImages(str(cells), 'all', CROPS)


def test_missing_files(cells):
    with pytest.raises(ValueError, match=r"split must be one of \['train', 'test', 'all'\], got 'val'"):
        ELPVImages(str(cells), 'val', CROPS)
    (cells / 'labels.csv').unlink()
    with pytest.raises(FileNotFoundError, match=r'labels\.csv.*pip install elpv-dataset'):
        ELPVImages(str(cells), 'all', CROPS)
