"""Recognise folders of training and test images, as opposed to class folders."""

import os
import re
from typing import NamedTuple

from mocox.datasets.masks import is_named_like_masks

TRAINING = ('train', 'training', 'trainset', 'train_set')  # small letters, the usual ones first
TESTS = ('val', 'valid', 'validation', 'test', 'testing', 'dev', 'eval', 'evaluation', 'testset', 'test_set')


MAX_LOOKED_AT = 10_000  # files in a folder beside the splits
YEAR = re.compile(r'[-_ ]?(19|20)\d\d$')  # train2017
_WORD = re.compile(r'(?:(?:seg|imgs?|images?|data)[-_ ])?(\w+?)(?:[-_ ](?:set|data|imgs?|images?))?')  # training_set


class Splits(NamedTuple):
    """Paths of split folders below the inspected one.

    Args:
        train: The training images.
        tests: The images to test on, in the order in which they are preferred.
    """

    train: str
    tests: tuple[str, ...]


def find_splits(folder: str) -> Splits | None:
    """The splits in a folder or in its folder ``images``, or None where its subfolders are classes or anything else.

    A folder called ``train`` is a split if one for tests stands beside it, or nothing else. Where further folders
    stand there too, it is one if it holds folders itself (among classes of vehicles it would hold images), or if the
    further folders hold no such files as it does or are named like masks (annotations, not classes).

    Args:
        folder: Is looked at.
    """
    names = _folders_in(folder)
    if found := _splits_among(folder, names):
        return Splits(_innermost(folder, found.train), tuple(_innermost(folder, name) for name in found.tests))
    images = next((name for name in names if name.lower() == 'images'), None)
    if images is None:
        return None
    found = _splits_among(os.path.join(folder, images), _folders_in(os.path.join(folder, images)))
    return found and Splits(
        os.path.join(images, found.train), tuple(os.path.join(images, name) for name in found.tests)
    )


def _splits_among(folder: str, names: list[str]) -> Splits | None:
    by_name = {
        spelling(name): name
        for spelling in (_word, lambda name: YEAR.sub('', name.lower()), str.lower)
        for name in names
    }
    train = next((by_name[name] for name in TRAINING if name in by_name), None)
    if train is None:
        return None
    tests = tuple(dict.fromkeys(by_name[name] for name in TESTS if name in by_name))
    others = [name for name in names if name != train and name not in tests and _word(name) not in TRAINING]
    if not tests and others:
        return None
    others = [name for name in others if not is_named_like_masks(name)]
    if others and not _folders_in(os.path.join(folder, train)):
        endings = _endings_in(os.path.join(folder, train))
        if any(endings & _endings_in(os.path.join(folder, name)) for name in others):
            return None
    return Splits(train, tests)


def _word(name: str) -> str:
    """``training`` of ``Training_set``: in small letters, without a year and what else is put around it."""
    match = _WORD.fullmatch(YEAR.sub('', name.lower()))
    return match[1] if match else name.lower()


def _innermost(folder: str, name: str) -> str:
    """``training_set/training_set`` where an archive was unpacked into a folder of its own name."""
    inner = os.path.join(name, os.path.basename(name))
    path = os.path.join(folder, name)
    if _folders_in(path) != [os.path.basename(name)] or os.path.islink(os.path.join(folder, inner)):
        return name
    is_class = any(os.path.isfile(os.path.join(path, other)) for other in os.listdir(path) if other[0] != '.')
    return name if is_class else _innermost(folder, inner)


def _folders_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.name[0] != '.' and entry.is_dir())
    except OSError:
        return []


def _endings_in(folder: str) -> set[str]:
    """The endings of the files below a folder, in small letters; of a large one those of the first files."""
    found: set[str] = set()
    looked_at = 0
    for _, _, files in os.walk(folder):
        found |= {os.path.splitext(name)[1].lower() for name in files[:MAX_LOOKED_AT]}
        looked_at += len(files)
        if looked_at > MAX_LOOKED_AT:
            break
    return found
