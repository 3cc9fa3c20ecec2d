"""Folders that part a data set into training and test images, told apart from folders that name classes."""

import os
from typing import NamedTuple

TRAINING = ('train', 'training', 'trainset', 'train_set')  # small letters, the usual ones first
TESTS = ('val', 'valid', 'validation', 'test', 'testing', 'dev', 'eval', 'evaluation', 'testset', 'test_set')


class Splits(NamedTuple):
    """Names of folders, as they are spelt.

    Args:
        train: The training images.
        tests: The images to test on, in the order in which they are preferred.
    """

    train: str
    tests: tuple[str, ...]


def find_splits(folder: str) -> Splits | None:
    """The splits in a folder, or None where its subfolders are classes or anything else.

    A folder called ``train`` is a split if one for tests stands beside it, or nothing else. Where further folders
    stand there too, it is one only if it holds folders itself: among classes of vehicles it would hold images.

    Args:
        folder: Is looked at, one level deep.
    """
    names = _folders_in(folder)
    by_name = {name.lower(): name for name in names}
    train = next((by_name[name] for name in TRAINING if name in by_name), None)
    if train is None:
        return None
    tests = tuple(by_name[name] for name in TESTS if name in by_name)
    others = [name for name in names if name != train and name not in tests and name.lower() not in TRAINING]
    if not tests and others:
        return None
    if others and not _folders_in(os.path.join(folder, train)):
        return None
    return Splits(train, tests)


def _folders_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.name[0] != '.' and entry.is_dir())
    except OSError:
        return []
