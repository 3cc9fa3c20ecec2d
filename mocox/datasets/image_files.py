"""Image files on disk: a folder, flat or nested, with or without class folders, or a list file."""

import logging
import os
import re
from collections.abc import Iterator
from itertools import chain

import numpy as np
import torch
from mmengine.logging import print_log

from mocox.datasets.base import Crops, ViewsDataset
from mocox.datasets.decode import decode
from mocox.registry import DATASETS

EXTENSIONS = (
    *('.bmp', '.dib', '.gif', '.j2k', '.jfif', '.jp2', '.jpe', '.jpeg', '.jpg'),
    *('.pbm', '.pgm', '.png', '.pnm', '.ppm', '.tga', '.tif', '.tiff', '.webp'),
)
# A label is a last column of digits; 'photo 1.jpg' has none because its last word is no integer.
LABELLED_LINE = re.compile(r'(?P<path>.*[^\s,])(?:[ \t]+|[ \t]*,[ \t]*)(?P<label>\d+)')
IMAGENET_NAME = re.compile(r'(?P<class>n\d{8})_\d+\.\w+')  # the class is a WordNet id
NUM_PROBES = 32  # files tried at the start, spread over the folder, before all the others
FIX = 'pass --data-root DIR, or set data_root (and data_prefix) of the dataset in the config'


@DATASETS.register_module()
class ImageFiles(ViewsDataset):
    """All images of a folder, in the order of their relative paths.

    Names that start with a dot are left out. A file that cannot be read (corrupt, truncated, vanished) does not end a
    run: another image takes its place, the same one every time, and the log names the file once. ``index`` of the item
    stays the one asked for; ``label`` is that of the image shown.

    Args:
        data_root: A folder.
        data_prefix: A folder below ``data_root``, searched with all its subfolders.
        list_file: One path per line, relative to that folder, with an integer label behind it (after spaces or a
            comma) or without. Itself relative to ``data_root``. Bare ImageNet names (``n01440764_18.JPEG``, as in the
            published lists of 1 % and 10 %) are looked up in their class folders.
        crops: Config of the transform that cuts the views.
        with_labels: Labels from the list file; without labels there, the first folder of a path is its class.
        classes: Names of class folders in the order of their labels; the folders that it does not name are left out.
            By default all, sorted; with a list file without labels all that are on disk, so that a class which the
            list leaves out does not shift the others. With a labelled list file only the names.
        seed: Seed of crops and draws.
        max_replacements: Images tried in place of an unreadable one before giving up.
    """

    def __init__(
        self,
        data_root: str,
        crops: dict | Crops,
        data_prefix: str = '',
        list_file: str | None = None,
        with_labels: bool = False,
        classes: list[str] | None = None,
        seed: int = 0,
        max_replacements: int = 100,
    ) -> None:
        super().__init__(crops, with_labels, list(classes) if classes else None, seed)
        self.folder = _existing_folder(data_root, data_prefix)
        self.max_replacements = max_replacements
        paths, labels = self._find(list_file and os.path.join(os.path.expanduser(data_root), list_file))
        # Bytes in one array: forked workers share it, where a list of str is copied page by page as it is read.
        self._paths = np.array([os.fsencode(path) for path in paths])
        self.labels = None if labels is None else np.array(labels)
        self._unreadable = torch.zeros(len(paths), dtype=torch.bool).share_memory_()  # written by workers too
        self._check_readable()

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def num_unreadable(self) -> int:
        """Files found unreadable so far, by this process and its workers."""
        return int(self._unreadable.sum())

    def path(self, index: int) -> str:
        """The path of one image."""
        return os.path.join(self.folder, os.fsdecode(self._paths[index]))

    def load(self, index: int) -> tuple[np.ndarray, int | None]:
        """Reads one image, or the first readable one of its replacements, and the label that belongs to it."""
        reasons = []
        for candidate in self._candidates(index):
            image = self._read(candidate, reasons)
            if image is not None:
                return image, None if self.labels is None else int(self.labels[candidate])
        raise ValueError(
            f'no readable image among {len(reasons)} tried in {self.folder!r}, first {reasons[0]}: '
            f'check the files, or {FIX}'
        )

    def _candidates(self, index: int) -> Iterator[int]:
        """The index itself, then its replacements, which only depend on it and the seed."""
        yield index
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, index]))
        for _ in range(self.max_replacements):
            yield int(rng.integers(len(self)))

    def _read(self, index: int, reasons: list[str]) -> np.ndarray | None:
        """Decodes one file; on failure notes the reason and logs the file if no process has done so."""
        path = self.path(index)
        try:
            with open(path, 'rb') as file:
                return decode(file.read())
        except Exception as error:  # Pillow's plugins raise anything from SyntaxError to struct.error
            reasons.append(f'{path}: {error}')
        if not self._unreadable[index]:
            self._unreadable[index] = True
            print_log(
                f'unreadable image, replaced by another one ({self.num_unreadable} of {len(self)} files so far): '
                f'{reasons[-1]}',
                logger='current',
                level=logging.WARNING,
            )
        return None

    def _check_readable(self) -> None:
        """Fails at the start, not in the first batch, where no file can be read."""
        reasons = []
        probes = set(np.linspace(0, len(self) - 1, NUM_PROBES).astype(int).tolist())
        for index in chain(sorted(probes), (i for i in range(len(self)) if i not in probes)):
            if self._read(index, reasons) is not None:
                return
        raise ValueError(
            f'no readable image in {self.folder!r}: {len(reasons)} of its {len(self)} files tried, '
            f'first {reasons[0]}; {FIX}'
        )

    def _find(self, list_file: str | None) -> tuple[list[str], list[int] | None]:
        if list_file is None:
            paths, labels = _scan(self.folder), []
        else:
            paths, labels = _parse_list(list_file)
            paths = self._in_class_folders(paths)
        if not self.with_labels:
            return paths, None
        if labels:
            return paths, labels
        return self._label_by_folder(paths, listed=list_file is not None)

    def _in_class_folders(self, paths: list[str]) -> list[str]:
        matches = [IMAGENET_NAME.fullmatch(path) for path in paths]
        if not all(matches) or os.path.isfile(os.path.join(self.folder, paths[0])):
            return paths
        return [f'{match["class"]}/{path}' for match, path in zip(matches, paths, strict=True)]

    def _label_by_folder(self, paths: list[str], listed: bool) -> tuple[list[str], list[int]]:
        folders = [path.split('/')[0] if '/' in path else None for path in paths]
        if None in folders:
            raise ValueError(
                f'{paths[folders.index(None)]!r} in {self.folder!r} lies in no class folder: with_labels=True needs '
                'one folder per class, or a list_file with a label at the end of each line'
            )
        if listed and self.classes is None:
            self.classes = sorted(entry.name for entry in os.scandir(self.folder) if _is_class_folder(entry))
            if unknown := sorted(set(folders) - set(self.classes)):
                raise ValueError(f'the list file names {unknown[:3]}, which are no folders in {self.folder!r}: {FIX}')
        elif self.classes is None:
            self.classes = sorted(set(folders))
        elif missing := sorted(set(self.classes) - set(folders)):
            raise ValueError(f'no image of the classes {missing} in {self.folder!r}: correct classes, or {FIX}')
        label_of = {name: label for label, name in enumerate(self.classes)}
        kept = [(path, label_of[folder]) for path, folder in zip(paths, folders, strict=True) if folder in label_of]
        return [path for path, _ in kept], [label for _, label in kept]


def _existing_folder(data_root: str, data_prefix: str) -> str:
    folder = os.path.join(os.path.expanduser(data_root), data_prefix).rstrip('/') or '/'
    if os.path.isdir(folder):
        return folder
    problem = 'is a file, not a folder' if os.path.exists(folder) else 'does not exist'
    error = NotADirectoryError if os.path.exists(folder) else FileNotFoundError
    raise error(f'the image folder {folder!r} {problem} (data_root={data_root!r}, data_prefix={data_prefix!r}): {FIX}')


def _scan(folder: str) -> list[str]:
    """Relative paths with forward slashes, sorted."""
    paths = []
    for parent, subfolders, names in os.walk(folder, followlinks=True):
        subfolders[:] = [name for name in subfolders if name[0] != '.' and not _is_loop(parent, name)]
        relative = os.path.relpath(parent, folder)
        for name in names:
            if name[0] != '.' and os.path.splitext(name)[1].lower() in EXTENSIONS:
                paths.append(os.path.normpath(os.path.join(relative, name)).replace(os.sep, '/'))
    if not paths:
        raise ValueError(
            f'no images in {folder!r}: neither it nor its subfolders hold a file named {" ".join(EXTENSIONS)}; {FIX}'
        )
    return sorted(paths)


def _is_loop(parent: str, name: str) -> bool:
    """Whether a link points back at a folder that contains it."""
    path = os.path.join(parent, name)
    if not os.path.islink(path):
        return False
    target = os.path.realpath(path)
    return os.path.commonpath([target, os.path.realpath(parent)]) == target


def _is_class_folder(entry: os.DirEntry) -> bool:
    return entry.is_dir() and not entry.name.startswith('.')


def _parse_list(list_file: str) -> tuple[list[str], list[int]]:
    """Paths and labels of a list file; no labels at all if no line has one."""
    if not os.path.isfile(list_file):
        raise FileNotFoundError(f'the list file {list_file!r} does not exist: correct list_file, or {FIX}')
    with open(list_file, encoding='utf-8-sig') as file:
        lines = [line.strip() for line in file if line.strip()]
    if not lines:
        raise ValueError(f'the list file {list_file!r} names no images: it needs one path per line')
    matches = [LABELLED_LINE.fullmatch(line) for line in lines]
    if not any(matches):
        return lines, []
    if not all(matches):
        raise ValueError(
            f'{lines[matches.index(None)]!r} in {list_file!r} has no label, other lines have one: '
            'put an integer at the end of each line, or of none'
        )
    return [match['path'] for match in matches], [int(match['label']) for match in matches]
