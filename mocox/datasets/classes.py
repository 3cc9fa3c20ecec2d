"""Check that a label means the same in two places: its position among the sorted class folders, or a list's number."""

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mocox.datasets.subset import spread

MAX_SHOWN = 5
NUM_LOOKED_AT = 1000  # paths of a list


@dataclass(frozen=True)
class Labelling:
    """The labels of some images, as far as they are known.

    Args:
        classes: Names in the order of their labels, where they have names.
        labels: The numbers that occur; of named classes by default all.
        folders: Where a list gives the labels: those of the images in each first folder.
    """

    classes: Sequence[str] | None = None
    labels: Collection[int] | None = None
    folders: Mapping[str, set[int]] = field(default_factory=dict)

    @property
    def numbers(self) -> set[int]:
        """The labels that occur; empty where they are not known."""
        return {*(range(len(self.classes or ())) if self.labels is None else self.labels)}


def labelling_of(dataset: Any) -> Labelling | None:
    """The labels of a data set; None without one label per image."""
    labels: Any = getattr(dataset, 'labels', None)
    if np.ndim(labels) != 1 or not len(labels) or not getattr(dataset, 'with_labels', True):
        return None
    folder_of, folders = getattr(dataset, 'listed_folder', lambda row: None), defaultdict(set)
    for row in spread(len(labels), NUM_LOOKED_AT):
        if folder := folder_of(row):
            folders[folder].add(int(labels[row]))
    return Labelling(getattr(dataset, 'classes', None), np.unique(labels).tolist(), folders)


def class_difference(
    ours: Labelling, theirs: Labelling, names: tuple[str, str] = ('training', 'test'), by_name: bool = False
) -> str:
    """Why a label does not mean the same in two places, in words; empty if nothing speaks against it.

    Args:
        ours: Classes of the images to learn from.
        theirs: Classes of the images to test on.
        names: Names of the two sets.
        by_name: Named classes may stand in another order, and ours may have more of them: labels will be translated.
    """
    if ours.classes and theirs.classes and list(ours.classes) != list(theirs.classes):
        return _difference_of_names(ours.classes, theirs.classes, names, by_name)
    return (
        _difference_of_labels(ours.numbers, theirs.numbers, names)
        or _difference_of_folders(theirs, ours.classes, names[::-1])
        or _difference_of_folders(ours, theirs.classes, names)
    )


def require_same_classes(
    ours: Labelling | None, theirs: Labelling | None, names: tuple[str, str], subject: str = '', by_name: bool = False
) -> None:
    """Refuse two sets of images in which a label does not mean the same; None means nothing is known of one.

    Args:
        ours: See :func:`class_difference`.
        theirs: See :func:`class_difference`.
        names: Names of the two sets.
        subject: How the message starts, with a verb; by default ``training and test have``.
        by_name: See :func:`class_difference`.

    Raises:
        ValueError: The classes differ.
    """
    difference = class_difference(ours, theirs, names, by_name) if ours and theirs else ''
    if difference:
        raise ValueError(
            f'{subject or f"{names[0]} and {names[1]} have"} different classes ({difference}). A label is the position '
            'of a class folder among the sorted folders: give both the same class folders, or name those '
            "to use (the data set's classes=[...]); a list must number them in that order, from 0"
        )


def _difference_of_names(ours: Sequence[str], theirs: Sequence[str], names: tuple[str, str], by_name: bool) -> str:
    missing = set() if by_name else {*ours} - {*theirs}, {*theirs} - {*ours}
    only = [
        f'only for {name}: {sorted(classes)[:MAX_SHOWN]}'
        for name, classes in zip(names, missing, strict=True)
        if classes
    ]
    if only and _composed(ours) == _composed(theirs):
        only.append(
            'the names look alike and differ in how accented letters are kept: make them equal with '
            '`convmv -r -f utf8 -t utf8 --nfc --notest DIR`'
        )
    return '; '.join(only) or ('' if by_name else 'in another order')


def _composed(names: Sequence[str]) -> set[str]:
    return {unicodedata.normalize('NFC', name) for name in names}


def _difference_of_labels(ours: set[int], theirs: set[int], names: tuple[str, str]) -> str:
    unknown = sorted(theirs - ours)
    if not ours or not unknown:
        return ''
    words = f'only for {names[1]}: label {", ".join(map(str, unknown[:MAX_SHOWN]))}'
    words += f'; {names[0]} has {describe_labels(ours)}, {names[1]} {describe_labels(theirs)}'
    shift = min(theirs) - min(ours)
    if shift and {label - shift for label in theirs} <= ours:
        later, earlier = names if shift < 0 else names[::-1]
        words += f'. Subtract {abs(shift)} from the labels for {later}, so that they count as those for {earlier}'
    return words


def _difference_of_folders(listed: Labelling, classes: Sequence[str] | None, names: tuple[str, str]) -> str:
    """A list that numbers class folders in another way."""
    for label, folder in enumerate(classes or ()):
        found = listed.folders.get(folder, {label})
        if len(found) == 1 and found != {label}:
            return f'images in the folder {folder!r} have label {min(found)} for {names[0]} and {label} for {names[1]}'
    return ''


def describe_labels(labels: Collection[int]) -> str:
    """``labels 0 to 2``, ``labels 0 to 7 (3 of them)``, ``label 4``."""
    low, high, num = min(labels), max(labels), len({*labels})
    if num == 1:
        return f'label {low}'
    return f'labels {low} to {high}' + (f' ({num} of them)' if num <= high - low else '')
