"""Positives from different files: groups of images, and the choice of the second view's image."""

import csv
import os
import re
import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

MAX_DRAWS = 16  # of other images of a group, before an image is its own positive
MAX_SHOWN = 8  # columns in a message
DELIMITERS = '\t;,'

Key = Hashable | None  # of a group; None: an image on its own


@dataclass(frozen=True)
class Positives:
    """The rule by which images are positives of each other, and how often the second view comes from another image.

    Seasons of a place, frames of a video, images of a patient: files that show the same. Exactly one of ``folder``,
    ``pattern`` and ``column`` says which. Images of one group that meet in a batch, or in the queue, still count as
    negatives of each other: groups should be small against the data set.

    Args:
        prob: Probability that the second view of an image is cut from another image of its group, all of them equally
            likely; else, and where the group has no other, both views are of the image itself.
        folder: The images of one folder are a group.
        pattern: A regular expression, searched in the path (relative, with forward slashes). Images for which its
            groups ``(...)`` hold the same text belong together; one that it is not found in is on its own.
        column: A column of ``list_file``. Images with the same entry belong together; one without is on its own.
        list_file: A table with names of columns in its first line, the path of an image in the first column, and
            tabs, semicolons or commas between them. Relative to ``data_root``, as its paths are, or to where the
            program was started; the first counts where both exist.

    Raises:
        ValueError: A value that cannot be.
    """

    prob: float
    folder: bool = False
    pattern: str | None = None
    column: str | None = None
    list_file: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.prob, bool) or not isinstance(self.prob, int | float) or not 0 <= self.prob <= 1:
            raise ValueError(f'positives.prob must lie between 0 and 1, got {self.prob!r}')
        if (self.folder is True) + (self.pattern is not None) + (self.column is not None) != 1:
            raise ValueError(
                'positives need one of folder=True, pattern=... and column=..., got '
                f'folder={self.folder!r}, pattern={self.pattern!r}, column={self.column!r}'
            )
        if (self.column is None) != (self.list_file is None):
            raise ValueError(
                f'positives: column and list_file belong together, got column={self.column!r} and '
                f'list_file={self.list_file!r}'
            )
        if self.pattern is not None:
            _compile(self.pattern)

    def keys(self, paths: Iterable[bytes], root: str = '', folder: str = '') -> Iterator[Key]:
        """The group of each image, None for one that is on its own.

        Args:
            paths: Relative to ``folder``.
            root: Folder that ``list_file`` and its paths are relative to.
            folder: Folder of the images.

        Raises:
            FileNotFoundError: There is no ``list_file``.
            ValueError: It lacks the column.
        """
        key_of = self._key_function(root, folder)
        return (key_of(os.fsdecode(path)) for path in paths)

    def _key_function(self, root: str, folder: str) -> Callable[[str], Key]:
        if self.folder:
            return lambda path: path.rpartition('/')[0]
        if self.pattern is not None:
            search = _compile(self.pattern).search
            return lambda path: found.groups() if (found := search(path)) else None
        table = read_column(_find_list(str(self.list_file), root), str(self.column))
        places = ['', os.path.join(folder, '')]  # relative to the images, absolute, relative to the root
        if folder and root and not (below := os.path.relpath(folder, root)).startswith('..'):
            places.append(os.path.join(below, ''))
        return lambda path: next((table[name] for place in places if (name := _plain(place + path)) in table), None)

    def group(self, paths: Iterable[bytes], root: str = '', folder: str = '') -> 'Groups':
        """Find the groups, see :meth:`keys`.

        Raises:
            ValueError: No image has another of its group, or all images are one group.
        """
        number_of: dict[Key, int] = {}
        numbers = np.fromiter(
            (
                -1 if key is None else number_of.setdefault(key, len(number_of))
                for key in self.keys(paths, root, folder)
            ),
            np.int64,
        )
        groups = Groups(numbers)
        self._check(groups, paths)
        return groups

    def _check(self, groups: 'Groups', paths: Iterable[bytes]) -> None:
        if not len(groups.numbers):
            return
        first = f'the first of {len(groups.numbers):,} images is {os.fsdecode(next(iter(paths)))!r}'
        if (groups.numbers < 0).all():
            cure = 'correct the pattern' if self.pattern is not None else 'correct the paths, or the column'
            raise ValueError(f'positives: {self} names no image ({first}): {cure}')
        if not len(groups.sizes):
            raise ValueError(
                f'positives: {self} makes {len(groups.numbers):,} groups of a single image ({first}): choose one that '
                'several images share, or leave positives out'
            )
        if groups.sizes[0] == len(groups.numbers) > 2:
            raise ValueError(
                f'positives: {self} makes one group of all {len(groups.numbers):,} images ({first}): no negatives '
                'would be left; choose one by which they differ'
            )

    def __str__(self) -> str:
        if self.folder:
            return 'folder=True'
        return f'pattern={self.pattern!r}' if self.pattern is not None else f'column={self.column!r}'


class Groups:
    """The groups that images belong to.

    Args:
        numbers: (N,) the group of each image; -1: on its own.
    """

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers = numbers
        counts = np.bincount(numbers[numbers >= 0]) if (numbers >= 0).any() else np.zeros(0, np.int64)
        self.sizes = np.sort(counts[counts > 1])[::-1]  # of the groups of several images
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._members = np.argsort(numbers, kind='stable')[int((numbers < 0).sum()) :]  # group by group, ascending

    def others(self, index: int, rng: np.random.Generator) -> Iterator[int]:
        """Yield other images of the group in random order, each at most once, until :data:`MAX_DRAWS` were drawn."""
        number = self.numbers[index]
        members = self._members[self._starts[number] : self._starts[number + 1]] if number >= 0 else ()
        if len(members) < 2:
            return
        own, seen = int(np.searchsorted(members, index)), set()
        for _ in range(MAX_DRAWS):
            place = int(rng.integers(len(members) - 1))
            if place not in seen:
                seen.add(place)
                yield int(members[place + (place >= own)])

    def share(self) -> float:
        """Probability that an image drawn at random belongs to the group of another one drawn at random."""
        total = len(self.numbers)
        return float((self.sizes * (self.sizes - 1.0)).sum() / (total * (total - 1.0))) if total > 1 else 0.0

    def checksum(self) -> int:
        """A CRC-32 of the group of each image."""
        return zlib.crc32(self.numbers.tobytes())

    def keep(self, rows: np.ndarray) -> 'Groups':
        """The groups of these images only."""
        return Groups(self.numbers[rows])

    def __str__(self) -> str:
        if not len(self.sizes):
            return 'no groups'
        alone = len(self.numbers) - int(self.sizes.sum())
        sizes = f'{self.sizes[-1]:,} to {self.sizes[0]:,}' if self.sizes[0] > self.sizes[-1] else f'{self.sizes[0]:,}'
        median = f' (median {int(np.median(self.sizes)):,})' if self.sizes[0] > self.sizes[-1] else ''
        return (
            f'{len(self.sizes):,} group{"s" * (len(self.sizes) != 1)} of {sizes} images{median}, '
            f'{alone:,} image{"s" * (alone != 1)} alone'
        )


def _find_list(list_file: str, root: str) -> str:
    """Below the data root, or from where the program was started.

    Raises:
        FileNotFoundError: It is in neither.
    """
    places = list(dict.fromkeys((os.path.join(root, os.path.expanduser(list_file)), os.path.expanduser(list_file))))
    found = next((place for place in places if os.path.isfile(place)), None)
    if found is None:
        looked = ' or '.join(map(repr, places))
        raise FileNotFoundError(f'positives: the list {looked} does not exist: correct positives.list_file')
    return found


def read_column(list_file: str, column: str) -> dict[str, str]:
    """The entries of one column of a table by the paths in its first; empty entries are left out.

    Raises:
        ValueError: It lacks the column, or is not a table.
    """
    with open(list_file, encoding='utf-8-sig', errors='surrogateescape', newline='') as file:
        head = file.readline(2**16)
        delimiter = next((mark for mark in DELIMITERS if mark in head), ',')
        names = [name.strip() for name in next(csv.reader([head], delimiter=delimiter, skipinitialspace=True), [])]
        if column not in names[1:]:
            raise ValueError(
                f'positives: {list_file!r} has no column {column!r} behind the paths: its first line names '
                f'{names[:MAX_SHOWN]}; correct positives.column'
            )
        place = names.index(column, 1)
        try:
            rows = [row for row in csv.reader(file, delimiter=delimiter, skipinitialspace=True) if row]
        except csv.Error as error:
            raise ValueError(f'positives: {list_file!r} is not a table of paths and columns ({error})') from None
    return {_plain(row[0].strip()): row[place].strip() for row in rows if len(row) > place and row[place].strip()}


def _plain(path: str) -> str:
    return str(PurePosixPath(path))  # 'a//b' and './a/b' are 'a/b'


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ValueError(f'positives.pattern={pattern!r} is not a regular expression: {error}') from None
    if not compiled.groups:
        raise ValueError(
            f'positives.pattern={pattern!r} has no group: put parentheses around what images of one group share, such '
            r"as '(patient\d+)_'"
        )
    return compiled
