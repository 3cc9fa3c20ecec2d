"""Splits are not classes, and a class called train is not a split."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mocox.datasets import ImageFiles
from mocox.datasets.splits import find_splits
from mocox.doctor.findings import WARNING
from mocox.doctor.images import check_pixels, look_at
from mocox.evaluation.data import open_data

CROPS = dict(type='CenterCrop', size=8, resize=8)


def write(root: Path, *folders: str) -> str:
    """One image in each folder; ``FOLDER:ENDING`` gets another file."""
    for number, (folder, _, ending) in enumerate(name.partition(':') for name in folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        if ending:
            (root / folder / f'{number}.{ending}').touch()
            continue
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(root / folder / f'{number}.png')
    return str(root)


@pytest.mark.parametrize(
    ('folders', 'train', 'tests'),
    [
        (['train/a', 'train/b', 'val/a', 'val/b'], 'train', ('val',)),
        (['Train/a', 'Test/a', 'VAL/a'], 'Train', ('VAL', 'Test')),
        (['Training/a', 'Testing/a'], 'Training', ('Testing',)),
        (['train', 'validation'], 'train', ('validation',)),  # no classes
        (['train', 'dev', 'eval'], 'train', ('dev', 'eval')),
        (['train/a', 'train/b'], 'train', ()),
        (['train/a', 'val/a', 'annotations'], 'train', ('val',)),
        (['train', 'val', 'annotations:json'], 'train', ('val',)),  # no classes, and files of another kind
        (['train2017', 'val2017', 'test2017', 'annotations:json'], 'train2017', ('val2017', 'test2017')),
        (['images/train', 'images/val', 'labels/train:txt', 'labels/val:txt'], 'images/train', ('images/val',)),
        (['images/train/a', 'images/test/a'], 'images/train', ('images/test',)),
        (['training_set/a', 'test_set/a'], 'training_set', ('test_set',)),
        (['train_images', 'test_images'], 'train_images', ('test_images',)),
        (['img-train/a', 'img-val/a'], 'img-train', ('img-val',)),
        (['training_set/training_set/a', 'test_set/test_set/a'], 'training_set/training_set', ('test_set/test_set',)),
        (
            ['seg_train/seg_train/a', 'seg_test/seg_test/a', 'seg_pred/seg_pred'],
            'seg_train/seg_train',
            ('seg_test/seg_test',),
        ),
        (['train/train', 'train/bus', 'test/train', 'test/bus'], 'train', ('test',)),
        (['train', 'train/train', 'test'], 'train', ('test',)),  # images beside it
        (['train', 'val', 'masks'], 'train', ('val',)),  # no classes, and annotations of the same kind
        (['train', 'val', 'Annotations'], 'train', ('val',)),
        (['images/train', 'images/val', 'annotations/train', 'annotations/val'], 'images/train', ('images/val',)),
    ],
)
def test_splits(tmp_path, folders, train, tests):
    root = write(tmp_path, *folders)
    assert find_splits(root) == (train, tests)
    images = ImageFiles(root, CROPS)
    folders = [folder for folder in folders if ':' not in folder]
    expected = [folder for folder in folders if f'{folder}/'.startswith(f'{train}/')]
    assert len(images) == len(expected)
    assert images.folder == f'{root}/{train}'
    notes = ' '.join(text for _, text in images.describe_files())
    assert all(repr(name) in notes for name in tests)
    assert len(ImageFiles(root, CROPS, splits=False)) == len(folders)


@pytest.mark.parametrize(
    'folders',
    [
        ['bus', 'car', 'train'],  # vehicles
        ['bus', 'car', 'train', 'test'],  # and an unlucky one: train holds images, as the others do
        ['a', 'b'],
        ['bus', 'images', 'train', 'val'],
        ['images', 'paintings'],
        ['train1', 'train2', 'val1'],
        ['test', 'val'],
        ['train_set', 'model_set', 'test_track'],
        ['images', 'img_a', 'seg_b'],
    ],
)
def test_classes(tmp_path, folders):
    root = write(tmp_path, *folders)
    assert find_splits(root) is None
    assert ImageFiles(root, CROPS, with_labels=True).classes == sorted(folders)


def test_prefix_and_list_say_more(tmp_path):
    root = write(tmp_path, 'train/a', 'train/b', 'val/a')
    assert len(ImageFiles(root, CROPS, data_prefix='val')) == 1
    (tmp_path / 'list.txt').write_text('val/a/2.png\n')
    assert len(ImageFiles(root, CROPS, list_file='list.txt')) == 1


def test_labels_of_splits_are_those_of_their_classes(tmp_path):
    root = write(tmp_path, 'Training/a', 'Training/b', 'Testing/b', 'Testing/a')
    assert ImageFiles(root, CROPS, with_labels=True).classes == ['a', 'b']
    assert ImageFiles(root, CROPS).monitoring_labels().tolist() == [0, 1]
    data = open_data(root, CROPS)
    assert (len(data.train), len(data.test), data.num_classes) == (2, 2, 2)
    assert str(data).startswith(f'Training and Testing in {root}')


def test_splits_without_one_to_learn_from_are_no_classes(tmp_path):
    with pytest.raises(ValueError, match='test and val, which are splits, not classes'):
        open_data(write(tmp_path, 'test/a', 'val/a'), CROPS)


def test_a_split_that_leads_back_to_itself(tmp_path):
    root = write(tmp_path, 'test/a')
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / 'train').symlink_to(tmp_path / 'train')
    assert find_splits(root) == ('train', ('test',))


@pytest.mark.parametrize(
    ('folders', 'masks'),
    [
        (['images', 'masks'], ['masks']),
        (['images/a', 'images/b', 'annotations/a'], ['annotations']),
        (['JPEGImages', 'SegmentationClass', 'SegmentationObject'], ['SegmentationClass', 'SegmentationObject']),
        (['leftImg8bit/train/aachen', 'gtFine/train/aachen'], ['gtFine']),
        (['PNGImages', 'PedMasks'], ['PedMasks']),
        (['train/images', 'train/masks', 'val/images', 'val/masks'], ['masks']),  # below the split that is read
        (['', 'ground_truth'], ['ground_truth']),  # among the images
        (['images', 'masks:json'], []),
        (['masks', 'no_masks', 'faces'], []),  # classes
        (['images/a', 'images/b'], []),
    ],
)
def test_masks_beside_images_are_said_with_the_cure(tmp_path, folders, masks):
    images = ImageFiles(write(tmp_path, *folders), CROPS)
    assert images.masks == masks
    notes = [text for level, text in images.file_notes if level == logging.WARNING]
    assert len(notes) == bool(masks)
    if masks:
        assert notes[0].startswith(', '.join(map(repr, masks)))
        assert '; set train_dataloader.dataset.data_prefix=FOLDER' in notes[0]
        findings = check_pixels(look_at(images, 2), images.pixels, [0, 0, 0])
        (fix,) = [finding.fix for finding in findings if finding.level == WARNING]
        assert fix.startswith('train_dataloader.dataset.data_prefix=FOLDER')
