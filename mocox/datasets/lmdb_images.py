"""Images in an LMDB: one file with all images, for file systems that are slow with many small files."""

import logging
import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from mocox.datasets.base import Crops
from mocox.datasets.encoded_images import EncodedImages
from mocox.datasets.extras import require_extra
from mocox.datasets.folders import scan
from mocox.datasets.image_files import label_by_folder, read_regular_file
from mocox.datasets.packed_paths import PackedPaths
from mocox.registry import DATASETS

# What other writers keep beside the images: their number, their list, their labels.
NO_IMAGE = re.compile(rb'__\w+__|num[-_]?samples|length|(label|target|text|meta)[-_]?\d*')
FIX = 'write one with mocox lmdb and pass --data-root FILE.lmdb, or set data_root'
MAX_KEY_BYTES = 511  # LMDB's own limit
PAGE = 4096
_opened: dict[str, tuple[int, Any]] = {}  # process and database; LMDB opens a file once in a process


@DATASETS.register_module()
class LMDBImages(EncodedImages):
    """The images of an LMDB: a key is a path, a value the content of the file.

    As :func:`write_lmdb` makes it of a folder, it is the same data set as the folder: the same order (as long as all
    names are UTF-8), labels and views. Every worker opens it when it first reads, read-only and without a lock. LMDB
    maps the file into memory and trusts it: read none from a stranger.

    Args:
        data_root: The LMDB, a folder.
        crops: Config of the transform that cuts the views.
        with_labels: The first folder in a key is the class.
        classes: Class folders in the order of their labels; by default all, sorted.
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
        with_labels: bool = False,
        classes: list[str] | None = None,
        seed: int | None = None,
        max_replacements: int = 100,
        positives: dict | None = None,
        **pixels: Any,
    ) -> None:
        super().__init__(
            crops, with_labels, list(classes) if classes else None, seed, max_replacements, positives, **pixels
        )
        self.file = os.path.expanduser(data_root)
        self.left_out: Counter[str] = Counter()
        self.root = os.path.dirname(self.file)
        with open_lmdb(self.file).begin() as transaction:
            keys = transaction.cursor().iternext(values=False)
            paths, labels = PackedPaths(key for key in keys if not self._is_left_out(key)), None
        if not len(paths):
            raise ValueError(f'the LMDB {self.file!r} is empty: {FIX}')
        if with_labels:
            self.classes, paths, labels = label_by_folder(paths, repr(self.file), self.classes)
        self.set_images(paths, labels, repr(self.file))

    def _is_left_out(self, key: bytes) -> bool:
        if not NO_IMAGE.fullmatch(key):
            return False
        self.left_out[re.sub('[0-9]+', '*', os.fsdecode(key))] += 1
        return True

    def describe_files(self) -> list[tuple[int, str]]:
        """Add the keys that are not images."""
        notes = super().describe_files()
        if self.left_out:
            words = ', '.join(f'{name!r} {number:,}' for name, number in self.left_out.most_common(10))
            text = f'{len(self):,} images in {self.file!r}; left out, because their keys name no images: {words}'
            notes.insert(0, (logging.INFO, text))
        return notes

    def version(self, index: int) -> str:
        """The version of the whole database."""
        file = os.path.join(self.file, 'data.mdb') if os.path.isdir(self.file) else self.file
        status = os.stat(file)
        return f'{status.st_size} {status.st_mtime_ns}'

    def read_bytes(self, index: int) -> bytes:
        """Look one image up."""
        with open_lmdb(self.file).begin() as transaction:
            data = transaction.get(self._paths[index])
        if data is None:
            raise ValueError('the key has vanished from the LMDB')
        return data


def write_lmdb(folder: str, out: str) -> int:
    """Copy all images of a folder, as they are, into an LMDB.

    Args:
        folder: Searched with all its subfolders, like :class:`~mocox.datasets.ImageFiles`.
        out: The LMDB, which must not exist; it appears there when it is complete.

    Returns:
        The number of images.

    Raises:
        FileExistsError: ``out`` exists.
        ValueError: No images, or a path that is too long for a key.
        OSError: A file cannot be read.
    """
    if os.path.exists(out):
        raise FileExistsError(f'{out!r} exists: remove it, or choose another name')
    if not os.path.isdir(folder):
        raise FileNotFoundError(f'there is no folder {folder!r}')
    paths = PackedPaths(map(os.fsencode, scan(folder)))
    longest = max(paths, key=len, default=b'')
    if not 0 < len(longest) <= MAX_KEY_BYTES:
        problem = f'{os.fsdecode(longest)!r} is longer than {MAX_KEY_BYTES} bytes' if longest else 'it holds no images'
        raise ValueError(f'{folder!r} cannot be made an LMDB: {problem}')
    sizes = (os.path.getsize(os.path.join(folder, os.fsdecode(path))) for path in paths)
    map_size = sum(size // PAGE * PAGE + 3 * PAGE for size in sizes) + 2**24  # an upper bound
    temporary = f'{out}.{os.getpid()}.tmp'
    try:
        with require_extra('lmdb', 'LMDB files need', 'lmdb').open(
            temporary, map_size=map_size, sync=False
        ) as database:
            for path in paths:
                with database.begin(write=True) as transaction:
                    transaction.put(path, read_regular_file(os.path.join(folder, os.fsdecode(path))))
            database.sync(True)
        Path(temporary, 'lock.mdb').unlink()
        os.rename(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(paths)


def open_lmdb(file: str) -> Any:
    """An LMDB for reading: opened once per process, and again after a fork, as LMDB demands.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is not an LMDB.
    """
    path = os.path.realpath(file)
    process, database = _opened.get(path, (None, None))
    if process == os.getpid():
        return database
    if database is not None:
        database.close()  # the parent's, of which this is a copy
    lmdb = require_extra('lmdb', 'LMDB files need', 'lmdb')
    if not os.path.exists(path):
        raise FileNotFoundError(f'there is no LMDB {file!r}: {FIX}')
    try:
        database = lmdb.open(path, subdir=os.path.isdir(path), readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise ValueError(f'{file!r} is not an LMDB, or damaged ({error}): {FIX}') from error
    _opened[path] = os.getpid(), database
    return database
