"""Image files on disk: a folder, flat or nested, with or without class folders, or a list file."""

import logging
import os
import re
import stat
from array import array
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from mocox.datasets.base import Crops
from mocox.datasets.encoded_images import MAX_FILE_BYTES, EncodedImages
from mocox.datasets.folders import EXTENSIONS, FIX, describe_left_out, scan
from mocox.datasets.lists import parse_list
from mocox.datasets.masks import find_masks
from mocox.datasets.packed_paths import PackedPaths
from mocox.datasets.splits import find_splits
from mocox.registry import DATASETS

IMAGENET_NAME = re.compile(rb'n[0-9]{8}_[0-9]+\.\w+')  # the class is a WordNet id


@DATASETS.register_module()
class ImageFiles(EncodedImages):
    """All images of a folder, in the order of their relative paths.

    Names that start with a dot are left out, and so are folders of thumbnails and deleted files (``@eaDir``,
    ``#recycle``, ...) and files of other endings, which the log counts. A file that cannot be read (corrupt, truncated,
    vanished, larger than 1 GiB, no regular file) does not end a run: another image takes its place, the same one every
    time, and the log names the file once. ``index`` of the item stays the one asked for; ``label`` is that of the image
    shown. What makes a list of the images leaves such a file out.

    Args:
        data_root: A folder. Where it is parted into splits (``train`` beside ``val`` or ``test``, in any usual
            spelling), the training images are meant, unless ``data_prefix`` or ``list_file`` says more; the log tells.
        data_prefix: A folder below ``data_root``, searched with all its subfolders.
        list_file: One path per line, relative to that folder, with an integer label behind it (after spaces or a
            comma) or without. Itself relative to ``data_root``. Bare ImageNet names (``n01440764_18.JPEG``, as in the
            published lists of 1 % and 10 %) are looked up in their class folders.
        crops: Config of the transform that cuts the views.
        with_labels: Labels from the list file; without labels there, the first folder of a path is its class.
        classes: Names of class folders in the order of their labels; the folders that it does not name are left out.
            By default all, sorted; with a list file without labels all that are on disk, so that a class which the
            list leaves out does not shift the others. With a labelled list file only the names, which
            may stand there in place of numbers.
        splits: False takes the images of all splits.
        seed: Seed of crops and draws; None takes that of the run.
        max_replacements: Images tried in place of an unreadable one before giving up.
        positives: Which images are positives of each other: the arguments of :class:`~mocox.datasets.Positives`.
        pixels: ``channels``, ``value_range``, ``depth``, ``nodata`` and ``auto_range`` of
            :class:`~mocox.datasets.Pixels`; ``frames`` of :class:`~mocox.datasets.EncodedImages`.
    """

    fix = FIX

    def __init__(
        self,
        data_root: str,
        crops: dict | Crops,
        data_prefix: str = '',
        list_file: str | None = None,
        with_labels: bool = False,
        classes: list[str] | None = None,
        seed: int | None = None,
        max_replacements: int = 100,
        splits: bool = True,
        positives: dict | None = None,
        **pixels: Any,
    ) -> None:
        super().__init__(
            crops, with_labels, list(classes) if classes else None, seed, max_replacements, positives, **pixels
        )
        self.root = os.path.expanduser(data_root)
        self.folder = _existing_folder(data_root, data_prefix)
        self.left_out: Counter = Counter()
        self.masks: list[str] = []
        self.has_listed_labels = False
        self.found_splits = None if data_prefix or list_file or not splits else find_splits(self.folder)
        if self.found_splits:
            self.folder = os.path.join(self.folder, self.found_splits.train)
        paths, labels = self._find(list_file and os.path.join(self.root, list_file))
        self.set_images(paths, labels, repr(self.folder))

    def path(self, index: int) -> str:
        """The path of one image."""
        return os.path.join(self.folder, os.fsdecode(self._paths[index]))

    def monitoring_labels(self) -> np.ndarray | None:
        """The labels, or the first folder of each path as its class; None if files lie in no folder or all in one."""
        if self.labels is not None:
            return self.labels
        label_of: dict[bytes, int] = {}
        labels = np.empty(len(self._paths), dtype=np.int64)
        for index in range(len(labels)):
            folder, slash, _ = self._paths[index].partition(b'/')
            if not slash:
                return None
            labels[index] = label_of.setdefault(folder, len(label_of))
        return labels if len(label_of) > 1 else None

    def listed_folder(self, index: int) -> str | None:
        """The first folder on the path of an image whose label stands in a list."""
        folder, slash, _ = self._paths[index].partition(b'/')
        return os.fsdecode(folder) if slash and self.has_listed_labels else None

    def read_bytes(self, index: int) -> bytes:
        """Read one file."""
        return read_regular_file(self.path(index))

    def describe_files(self) -> list[tuple[int, str]]:
        """Add the files of the folder that are not read."""
        notes = super().describe_files()
        if self.found_splits and self.found_splits.tests:
            others = ', '.join(map(repr, self.found_splits.tests))
            text = f'{self.folder!r} has the training images; not used: {others} beside it (splits=False uses all)'
            notes.insert(0, (logging.INFO, text))
        if self.masks:
            names = ', '.join(map(repr, self.masks[:3])) + ', ...' * (len(self.masks) > 3)
            text = f'{names}, beside images and named like masks, are taken for images as well'
            cure = 'train_dataloader.dataset.data_prefix=FOLDER, that of the images alone, or move the others'
            notes.insert(0, (logging.WARNING, f'{text}; set {cure}'))
        if left_out := describe_left_out(self.left_out):
            what = 'images' if self.frames == 'all' else 'files'
            notes.insert(0, (logging.INFO, f'{len(self):,} {what} in {self.folder!r}; {left_out[:-2]}'))
        return notes

    def _find(self, list_file: str | None) -> tuple[PackedPaths, np.ndarray | None]:
        if list_file is None:
            self.left_out.clear()
            folders: set[str] = set()
            found = _noting_folders(scan(self.folder, self.left_out), folders)
            paths, labels = PackedPaths(map(os.fsencode, found)), None
            self.masks = find_masks(folders)
            if not len(paths):
                raise ValueError(
                    f'no images in {self.folder!r}: neither it nor its subfolders hold a file named '
                    f'{" ".join(EXTENSIONS)}; {describe_left_out(self.left_out)}{FIX}'
                )
        else:
            paths, labels = parse_list(list_file, self.folder, self.classes)
            paths = self._in_class_folders(paths)
        if not self.with_labels:
            return paths, None
        if labels is not None:
            self.has_listed_labels = True
            return paths, labels
        existing = None
        if list_file is not None:
            existing = [entry.name for entry in os.scandir(self.folder) if _is_class_folder(entry)]
        self.classes, paths, labels = label_by_folder(paths, repr(self.folder), self.classes, existing)
        return paths, labels

    def _in_class_folders(self, paths: PackedPaths) -> PackedPaths:
        if os.path.isfile(os.path.join(self.folder, os.fsdecode(paths[0]))):
            return paths
        if not all(IMAGENET_NAME.fullmatch(path) for path in paths):  # ends at the first that is none
            return paths
        return PackedPaths(path[: path.index(b'_')] + b'/' + path for path in paths)


def _existing_folder(data_root: str, data_prefix: str) -> str:
    folder = os.path.join(os.path.expanduser(data_root), data_prefix).rstrip('/') or '/'
    if os.path.isdir(folder):
        return folder
    problem = 'is a file, not a folder' if os.path.exists(folder) else 'does not exist'
    error = NotADirectoryError if os.path.exists(folder) else FileNotFoundError
    raise error(f'the image folder {folder!r} {problem} (data_root={data_root!r}, data_prefix={data_prefix!r}): {FIX}')


def _noting_folders(paths: Iterator[str], folders: set[str]) -> Iterator[str]:
    """Pass paths on and add the folder of each."""
    last = None
    for path in paths:
        folder = path.rpartition('/')[0]
        if folder != last:
            folders.add(folder)
            last = folder
        yield path


def _is_class_folder(entry: os.DirEntry) -> bool:
    return entry.is_dir() and not entry.name.startswith('.')


def label_by_folder(
    paths: PackedPaths, source: str, classes: list[str] | None = None, existing: list[str] | None = None
) -> tuple[list[str], PackedPaths, np.ndarray]:
    """Labels images by the first folder of their path.

    Args:
        paths: Relative, with forward slashes.
        source: Where they come from, for messages.
        classes: The folders to keep, in the order of their labels; by default all, sorted.
        existing: All class folders, where some may have none of the paths.

    Returns:
        Classes, the paths that are kept, and their labels (N,) int64.

    Raises:
        ValueError: A path in no folder or in one that does not exist; a class without image.
    """
    folders, numbers = _number_folders(paths, source)
    if classes is None:
        classes = sorted(folders if existing is None else existing)
        if unknown := sorted(set(folders) - set(classes)):
            raise ValueError(f'the list file names {unknown[:3]}, which are not folders in {source}: {FIX}')
    elif missing := sorted(set(classes) - set(folders)):
        raise ValueError(f'no image of the classes {missing} in {source}: correct classes, or {FIX}')
    label_of = {name: label for label, name in enumerate(classes)}
    labels = np.array([label_of.get(folder, -1) for folder in folders])[numbers]
    kept = labels >= 0
    if not kept.all():
        paths = PackedPaths(path for path, keep in zip(paths, kept) if keep)
    return classes, paths, labels[kept]


def _number_folders(paths: PackedPaths, source: str) -> tuple[list[str], np.ndarray]:
    """The first folders of all paths, and for each path the number of its own."""
    folders: dict[bytes, int] = {}
    numbers = array('q')
    for path in paths:
        folder, slash, _ = path.partition(b'/')
        if not slash:
            raise ValueError(
                f'{os.fsdecode(path)!r} in {source} lies in no class folder: with_labels=True needs one folder per '
                'class, or a list_file with a label at the end of each line'
            )
        numbers.append(folders.setdefault(folder, len(folders)))
    return [os.fsdecode(folder) for folder in folders], np.frombuffer(numbers, np.int64)


def read_regular_file(path: str) -> bytes:
    """Read a regular file; never wait for a pipe or read a device.

    Raises:
        OSError: It cannot be read.
        ValueError: No regular file, or too large for an image.
    """
    with open(path, 'rb', opener=_open_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError('not a regular file')
        if status.st_size > MAX_FILE_BYTES:
            raise ValueError(f'{status.st_size} bytes, more than the {MAX_FILE_BYTES} that an image may have')
        return file.read() if status.st_size else b''  # what claims to be empty may be endless, as in /proc


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, 'O_NONBLOCK', 0))
