"""Images in tar shards, as WebDataset writes them, in a folder or an object store."""

import hashlib
import logging
import os
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mocox.datasets.base import Crops
from mocox.datasets.encoded_images import MAX_FILE_BYTES, EncodedImages
from mocox.datasets.extras import require_extra
from mocox.datasets.folders import EXTENSIONS
from mocox.datasets.packed_paths import PackedPaths
from mocox.datasets.tar_index import INDEX_VERSION, ShardIndex, index_shard, read_index_file, write_index_file
from mocox.registry import DATASETS

FIX = 'set data_root (--data-root) and shards (train_dataloader.dataset.shards) of the dataset'
MAX_SHARDS = 1_000_000
RANGE = re.compile(r'(-?\d+)\.\.(-?\d+)')
MAX_PATTERN = 4096  # characters
NUM_THREADS = 16  # shards indexed at the same time


@DATASETS.register_module()
class WebDatasetImages(EncodedImages):
    """Images in tar shards, any of which can be read at any time.

    The shards are looked through once: where every image lies is kept in a small index file. After that this is a data
    set like a folder: shuffled as a whole, not shard by shard, resumed exactly, and a damaged image is replaced.
    Nothing is unpacked to disk. An image is read with one ranged request; ``filecache::`` in front of a URL keeps whole
    shards on the local disk.

    Members with one name up to the first dot of its last part are a sample, as in WebDataset: its first member with the
    ending of an image is the image, its member ``.cls`` the label, a number or the name of a class. Links to members
    that come before them are images too.

    Args:
        data_root: A folder, or a URL of one that fsspec understands: ``s3://bucket/imagenet``, ``https://...``.
        crops: Config of the transform that cuts the views.
        shards: Which files there: a name with braces (``train-{0000..0146}.tar``), or several.
        with_labels: Whether items have a label.
        classes: Names of classes in the order of their labels, where the labels are names.
        index_folder: Where the index files are kept; None: in ``~/.cache/mocox/shards`` (``XDG_CACHE_HOME``).
        storage_options: Arguments of fsspec's file system, such as ``dict(anon=True)`` for a public S3 bucket.
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
        shards: str | list[str],
        with_labels: bool = False,
        classes: list[str] | None = None,
        index_folder: str | None = None,
        storage_options: dict | None = None,
        seed: int | None = None,
        max_replacements: int = 100,
        positives: dict | None = None,
        **pixels: Any,
    ) -> None:
        super().__init__(
            crops, with_labels, list(classes) if classes else None, seed, max_replacements, positives, **pixels
        )
        self.urls = expand_shards(data_root, shards)
        self.root = '' if '://' in data_root else os.path.expanduser(data_root)
        self.storage_options = dict(storage_options or {})
        cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
        folder = Path(index_folder or os.path.join(cache, 'mocox', 'shards')).expanduser()
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            indices = list(pool.map(lambda url: load_index(url, self.storage_options, folder), self.urls))
        for url, index in zip(self.urls, indices):
            if index.problem:
                print_log(f'{url!r}: {index.problem}', logger='current', level=logging.WARNING)
        counts = [len(index.offsets) for index in indices]
        if not sum(counts):
            reasons = [index.problem for index in indices if index.problem]
            reason = reasons[0] if reasons else f'no member has an ending of {" ".join(EXTENSIONS)}'
            raise ValueError(f'no images in {self._source()}: {reason}; {FIX}')
        self._shard = np.repeat(np.arange(len(indices), dtype=np.int32), counts)
        self._offsets = np.concatenate([index.offsets for index in indices])
        self._sizes = np.concatenate([index.sizes for index in indices])
        names = PackedPaths(name for index in indices for name in index.names)
        labels = self._number_labels(indices, names) if with_labels else None
        self.set_images(names, labels, self._source())

    def _number_labels(self, indices: list[ShardIndex], names: PackedPaths) -> np.ndarray:
        """Labels (N,) from 0 on: as they are, or the places of their names in ``classes``."""
        found = sorted({text for index in indices for text in index.texts})
        if found and self.classes is None:
            raise ValueError(
                f'the labels of {self._source()} are not label numbers, but {found[:3]}: set classes={found[:1000]} of '
                'the dataset, in the order of their labels'
            )
        classes = self.classes or []
        if unknown := [text for text in found if text not in classes]:
            raise ValueError(f'classes lacks {unknown[:3]}, which are labels in {self._source()}: add them')
        parts = []
        for index in indices:
            numbers = np.array([classes.index(text) for text in index.texts], np.int64)
            labels = index.labels.copy()
            is_text = labels < -1
            labels[is_text] = numbers[-2 - labels[is_text]] if len(numbers) else labels[is_text]
            parts.append(labels)
        labels = np.concatenate(parts)
        if (labels < 0).any():
            position = int(np.argmax(labels < 0))
            raise ValueError(
                f'{os.fsdecode(names[position])!r} in {self.urls[self._shard[position]]!r} has no label: '
                'with_labels=True needs a member NAME.cls for every image'
            )
        return labels

    def keep(self, rows: np.ndarray) -> None:
        """See :meth:`ViewsDataset.keep`."""
        super().keep(rows)
        self._shard, self._offsets, self._sizes = self._shard[rows], self._offsets[rows], self._sizes[rows]

    @cached_property
    def _states(self) -> list[str]:
        return [shard_state(url, self.storage_options) for url in self.urls]

    def version(self, index: int) -> str:
        """The version of its shard in the store, and the image's offset in it."""
        return f'{self._states[self._shard[index]]} {self._offsets[index]} {self._sizes[index]}'

    def path(self, index: int) -> str:
        """Shard and member of one image."""
        return f'{self.urls[self._shard[index]]}/{super().path(index)}'

    def read_bytes(self, index: int) -> bytes:
        """Read one member."""
        size = int(self._sizes[index])
        if size > MAX_FILE_BYTES:
            raise ValueError(f'{size} bytes, more than the {MAX_FILE_BYTES} that an image may have')
        system, path = open_url(self.urls[self._shard[index]], self.storage_options)
        start = int(self._offsets[index])
        data = system.cat_file(path, start, start + size)
        if len(data) != size:
            raise ValueError(f'got {len(data)} bytes instead of {size}: has the shard changed since it was indexed?')
        return data

    def _source(self) -> str:
        return repr(self.urls[0]) + (f' and {len(self.urls) - 1} more shards' if len(self.urls) > 1 else '')


def expand_shards(data_root: str, shards: str | list[str]) -> list[str]:
    """The URLs or paths of all shards: braces are expanded, by the rules of a shell, and nothing else.

    Raises:
        ValueError: No shard, or one of a kind that cannot be read in any order.
    """
    patterns = [shards] if isinstance(shards, str) else list(shards)
    braceexpand = require_extra('braceexpand', 'WebDatasetImages needs', 'webdataset').braceexpand
    if long := [pattern for pattern in patterns if len(pattern) > MAX_PATTERN]:
        raise ValueError(f'shards={long[0][:100]!r}... is longer than {MAX_PATTERN} characters: {FIX}')
    ends = [(int(a), int(b)) for pattern in patterns for a, b in RANGE.findall(pattern)]  # braceexpand lists them
    try:
        expanded = (name for pattern in patterns for name in braceexpand(pattern))
        names = [] if any(abs(b - a) >= MAX_SHARDS for a, b in ends) else list(islice(expanded, MAX_SHARDS + 1))
    except RecursionError:
        raise ValueError(f'shards={shards[:100]!r}...: braces in braces in braces; write the names out') from None
    if len(names) > MAX_SHARDS or (ends and not names):
        raise ValueError(f'shards={shards!r} names more than {MAX_SHARDS} files: {FIX}')
    if not names:
        raise ValueError(f'shards={shards!r} names no file: {FIX}')
    for name in names:
        if not name.endswith('.tar'):
            raise ValueError(
                f'the shard {name!r} is not a .tar: compressed shards allow no random access, so unpack them first; '
                'commands (pipe:) are not run'
            )
    root = data_root if '://' in data_root else os.path.expanduser(data_root)
    return [name if '://' in name or not root else os.path.join(root, name) for name in names]


def open_url(url: str, storage_options: dict) -> tuple[Any, str]:
    """The file system of fsspec for a URL, and the path in it; cheap, and right in a forked worker as well."""
    return require_extra('fsspec', 'WebDatasetImages needs', 'webdataset').core.url_to_fs(url, **storage_options)


def shard_state(url: str, storage_options: dict) -> str:
    """A state that changes with the content of a shard, as far as its store tells; its size comes last.

    Raises:
        FileNotFoundError: There is no such shard.
    """
    system, path = open_url(url, storage_options)
    try:
        store = getattr(system, 'fs', system)  # a cache in front of it cannot tell
        return f'{INDEX_VERSION} {url} {store.ukey(path)} {store.info(path)["size"]}'
    except ImportError:  # fsspec says what to install
        raise
    except Exception as error:  # each store has errors of its own
        raise FileNotFoundError(f'the shard {url!r} cannot be opened ({error!r}): {FIX}') from error


def load_index(url: str, storage_options: dict, folder: Path) -> ShardIndex:
    """Load the image offsets of a shard, from the index file if there is one for this very shard.

    Raises:
        FileNotFoundError: There is no such shard.
        ValueError: It is not a tar archive.
    """
    state = shard_state(url, storage_options)
    file = folder / f'{hashlib.sha256(state.encode(errors="surrogateescape")).hexdigest()[:32]}.npz'
    if file.is_file():
        index = read_index_file(file, int(state.rpartition(' ')[2]))
        if index is not None:
            return index
    system, path = open_url(url, storage_options)
    with system.open(path, 'rb') as shard:
        index = index_shard(shard, url, int(state.rpartition(' ')[2]))
    write_index_file(file, index)
    return index
