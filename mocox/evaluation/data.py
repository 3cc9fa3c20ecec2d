"""Labelled images for evaluation, in the usual folder layouts."""

import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor

from mocox.datasets import CIFAR10Images, CIFAR100Images, IDXImages, ImageFiles, ViewsDataset, VOC07Images
from mocox.datasets.classes import labelling_of, require_same_classes
from mocox.datasets.lists import find_lists
from mocox.datasets.pixels import RGB, Pixels
from mocox.datasets.splits import TESTS, find_splits
from mocox.datasets.voc07 import find_voc07
from mocox.registry import DATASETS

IMAGENET_1K, VOC07 = 'ImageNet-1k', 'VOC07'  # what published numbers are for


@dataclass
class Data:
    """Labelled images to learn from and to test on.

    Args:
        train: The images to learn from.
        test: The images to test on; None: leave-one-out on ``train``.
        name: In words, for messages.
        multi_label: Labels are (K,) with 1 present, 0 difficult, -1 absent, not a number.
    """

    train: ViewsDataset
    test: ViewsDataset | None
    name: str
    multi_label: bool = False

    def __post_init__(self) -> None:
        if self.multi_label:
            return
        if self.test is not None:
            self._use_training_labels(self.test)
        labels = labels_of(self.train)
        self.num_classes = int(labels.max()) + 1
        if len(labels.unique()) < 2:
            raise ValueError(f'{self.name}: the training images are all of one class: there is nothing to tell apart')

    def _use_training_labels(self, images: ViewsDataset) -> None:
        """Number the class folders of the test as those of the training; classes without test images are allowed."""
        ours, theirs = labelling_of(self.train), labelling_of(images)
        require_same_classes(ours, theirs, ('training', 'test'), f'{self.name}: training and test have', by_name=True)
        train, test = self.train.classes, images.classes
        if train != test and train is not None and test is not None:
            images.labels = np.array([train.index(name) for name in test])[images.labels]
            images.classes = train

    @property
    def published_as(self) -> str | None:
        """The benchmark that published numbers are for, if this is it."""
        num_tests = 0 if self.test is None else len(self.test)
        if self.multi_label:
            return VOC07 if num_tests == 4952 else None
        return IMAGENET_1K if self.num_classes == 1000 and num_tests == 50_000 else None

    def __str__(self) -> str:
        tests = 'each tested by leave-one-out' if self.test is None else f'{len(self.test):,} to test on'
        return f'{self.name}: {len(self.train):,} images to learn from, {tests}'


def open_data(
    root: str, crops: dict, config: Config | None = None, test_split: str | None = None, pixels: Pixels = RGB
) -> Data:
    """Find the images.

    Args:
        root: A folder with ``train`` and ``val`` or ``test``, each with a folder per class; one with the lists
            ``train.txt`` and ``test.txt`` or ``val.txt`` of labelled images; one with class folders only; VOC 2007,
            CIFAR-10, CIFAR-100 or IDX files as published; or whatever the datasets of ``config`` read.
        crops: Config of the transform that cuts the view.
        config: One whose training and test dataset have labels; their layout is read then.
        test_split: The name of the folder, or of VOC's split, to test on.
        pixels: How image files are read, where the config does not say.

    Raises:
        FileNotFoundError: No such folder.
        ValueError: Nothing recognised in it, no labels, or classes that do not fit together.
    """
    root = os.path.expanduser(root)
    if not os.path.isdir(root):
        is_file = ' (it is a file: pass the folder that holds it)' if os.path.isfile(root) else ''
        raise FileNotFoundError(f'--data-root: there is no folder {root}{is_file}')
    if config is not None and _has_labels(config, 'train') and _has_labels(config, 'test'):
        train = _from_config(config, 'train', root, crops, pixels)
        test = _from_config(config, 'test', root, crops, train.pixels)  # what is measured, on the training images
        return Data(train, test, f'{type(train).__name__} in {root}', multi_label=labels_of(train).ndim == 2)
    for find in _LAYOUTS:
        if data := find(root, crops, test_split, pixels):
            return data
    raise AssertionError('the last layout takes every folder')


def labels_of(dataset: ViewsDataset) -> Tensor:
    """Return all labels, (N,) or (N, K), without reading an image.

    Raises:
        ValueError: There are none.
    """
    if dataset.labels is None:
        raise ValueError(f'{type(dataset).__name__} has no labels')
    return torch.as_tensor(np.asarray(dataset.labels)).long()


def _voc07(root: str, crops: dict, test_split: str | None, pixels: Pixels) -> Data | None:
    if find_voc07(root) is None:
        return None
    train, test = (VOC07Images(root, crops, split, with_labels=True) for split in ('trainval', test_split or 'test'))
    return Data(train, test, f'{VOC07} in {train.folder}', multi_label=True)


def _cifar(root: str, crops: dict, test_split: str | None, pixels: Pixels) -> Data | None:
    for kind in (CIFAR10Images, CIFAR100Images):
        try:
            train, test = (kind(root, crops, split, with_labels=True) for split in ('train', 'test'))
        except FileNotFoundError:
            continue
        return Data(train, test, f'{kind.name} in {root}')
    return None


def _idx(root: str, crops: dict, test_split: str | None, pixels: Pixels) -> Data | None:
    try:
        train, test = (
            IDXImages(root, crops, split, with_labels=True, **pixels.settings()) for split in ('train', 'test')
        )
    except FileNotFoundError:
        return None
    return Data(train, test, f'IDX files in {root}')


def _lists(root: str, crops: dict, test_split: str | None, pixels: Pixels) -> Data | None:
    found = find_lists(root)
    if found is None:
        return None
    training, tests = found
    test = f'{test_split}.txt' if test_split else tests[0]
    train = ImageFiles(root, crops, list_file=training, with_labels=True, **pixels.settings())
    others = ImageFiles(root, crops, list_file=test, with_labels=True, **train.pixels.settings())
    return Data(train, others, f'{training} and {test} in {root}')


def _train_and_test(root: str, crops: dict, test_split: str | None, pixels: Pixels) -> Data | None:
    splits = find_splits(root)
    if splits is None:
        return None
    names = [test_split] if test_split else splits.tests
    name = next((name for name in names if os.path.isdir(os.path.join(root, name))), None)
    if name is None:
        raise ValueError(
            f'{root} has {splits.train} but no {test_split or "val or test"} to test on: name the folder with '
            f'--test-split, or pass --data-root {os.path.join(root, splits.train)} to test each image with the help of '
            'the others'
        )
    train = ImageFiles(root, crops, data_prefix=splits.train, with_labels=True, **pixels.settings())
    test = ImageFiles(root, crops, data_prefix=name, with_labels=True, **train.pixels.settings())
    return Data(train, test, f'{splits.train} and {name} in {root}')


def _class_folders(root: str, crops: dict, test_split: str | None, pixels: Pixels) -> Data:
    if test_split:
        raise ValueError(f'--test-split {test_split}: {root} has no folder train beside it')
    images = ImageFiles(root, crops, with_labels=True, **pixels.settings())
    classes = images.classes or []
    if classes and set(map(str.lower, classes)) <= set(TESTS):
        raise ValueError(
            f'{root} has {" and ".join(classes)}, which are splits, not classes, and no train to learn from: '
            f'pass --data-root {os.path.join(root, classes[0])} for a leave-one-out test'
        )
    return Data(images, None, f'class folders in {root}')


_LAYOUTS: tuple[Callable[[str, dict, str | None, Pixels], Data | None], ...] = (
    _voc07,
    _cifar,
    _idx,
    _lists,
    _train_and_test,
    _class_folders,
)


def _has_labels(config: Config, name: str) -> bool:
    return bool(((config.get(f'{name}_dataloader') or {}).get('dataset') or {}).get('with_labels'))


def _from_config(config: Config, name: str, root: str, crops: dict, pixels: Pixels) -> ViewsDataset:
    own = deepcopy(config[f'{name}_dataloader'].dataset)
    settings = dict(pixels.settings() | own, data_root=root, crops=crops)
    with DefaultScope.overwrite_default_scope('mocox'):
        return DATASETS.build(settings)
