"""Images in tar shards, as WebDataset writes them, in a folder or an object store."""

import hashlib
import logging
import os
import tarfile
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np
from mmengine.logging import print_log

from mocox.datasets.base import Crops
from mocox.datasets.encoded_images import MAX_FILE_BYTES, EncodedImages
from mocox.datasets.extras import require_extra
from mocox.datasets.image_files import EXTENSIONS
from mocox.datasets.packed_paths import PackedPaths
from mocox.registry import DATASETS

FIX = 'set data_root and shards of the dataset in the config'
MAX_HEADER_BYTES = 2**20  # read at once; what a tar archive says about a member is shorter
MAX_LABEL_BYTES = 18
NUM_THREADS = 16  # shards indexed at the same time
INDEX_VERSION = 1


@DATASETS.register_module()
class WebDatasetImages(EncodedImages):
    """Images in tar shards, any of which can be read at any time.

    The shards are looked through once: where every image lies is kept in a small index file. After that this is a data
    set like a folder: shuffled as a whole, not shard by shard, resumed exactly, and a damaged image is replaced.
    Nothing is unpacked to disk. An image is read with one ranged request; ``filecache::`` in front of a URL keeps whole
    shards on the local disk.

    Members with one name up to the first dot of its last part are a sample, as in WebDataset: its first member with the
    ending of an image is the image, its member ``.cls``, a number in digits, the label.

    Args:
        data_root: A folder, or a URL of one that fsspec understands: ``s3://bucket/imagenet``, ``https://...``.
        crops: Config of the transform that cuts the views.
        shards: Which files there: a name with braces (``train-{0000..0146}.tar``), or several.
        with_labels: Whether items have a label.
        index_folder: Where the index files are kept; None: in ``~/.cache/mocox/shards`` (``XDG_CACHE_HOME``).
        storage_options: Arguments of fsspec's file system, such as ``dict(anon=True)`` for a public S3 bucket.
        seed: Seed of crops and draws; None takes that of the run.
        max_replacements: Images tried in place of an unreadable one before giving up.
        pixels: ``channels``, ``value_range`` and ``depth`` of :class:`~mocox.datasets.Pixels`.
    """

    fix = FIX

    def __init__(
        self,
        data_root: str,
        crops: dict | Crops,
        shards: str | list[str],
        with_labels: bool = False,
        index_folder: str | None = None,
        storage_options: dict | None = None,
        seed: int | None = None,
        max_replacements: int = 100,
        **pixels: Any,
    ) -> None:
        super().__init__(crops, with_labels, None, seed, max_replacements, **pixels)
        self.urls = expand_shards(data_root, shards)
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
            raise ValueError(f'no images in {self._source()}: no member has an ending of {" ".join(EXTENSIONS)}; {FIX}')
        self._shard = np.repeat(np.arange(len(indices), dtype=np.int32), counts)
        self._offsets = np.concatenate([index.offsets for index in indices])
        self._sizes = np.concatenate([index.sizes for index in indices])
        labels = np.concatenate([index.labels for index in indices])
        names = PackedPaths(name for index in indices for name in index.names)
        if with_labels and (labels < 0).any():
            position = int(np.argmax(labels < 0))
            raise ValueError(
                f'{os.fsdecode(names[position])!r} in {self.urls[self._shard[position]]!r} has no label: '
                'with_labels=True needs a member NAME.cls with a number for every image'
            )
        self.set_images(names, labels if with_labels else None, self._source())

    def path(self, index: int) -> str:
        """Shard and member of one image."""
        return f'{self.urls[self._shard[index]]}/{super().path(index)}'

    def read_bytes(self, index: int) -> bytes:
        """Reads one member."""
        size = int(self._sizes[index])
        if size > MAX_FILE_BYTES:
            raise ValueError(f'{size} bytes, more than the {MAX_FILE_BYTES} that an image may have')
        system, path = open_url(self.urls[self._shard[index]], self.storage_options)
        start = int(self._offsets[index])
        data = system.cat_file(path, start, start + size)
        if len(data) != size:
            raise ValueError(f'{len(data)} bytes came instead of {size}: has the shard changed since it was indexed?')
        return data

    def _source(self) -> str:
        return repr(self.urls[0]) + (f' and {len(self.urls) - 1} more shards' if len(self.urls) > 1 else '')


@dataclass(frozen=True)
class ShardIndex:
    """Where the images of one shard lie.

    Args:
        names: Of the N images, as in the archive.
        offsets: (N,) int64, bytes from the start of the shard.
        sizes: (N,) int64, bytes.
        labels: (N,) int64, -1 where there is none.
        problem: What was left out, in words, or nothing.
    """

    names: PackedPaths
    offsets: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    problem: str


def expand_shards(data_root: str, shards: str | list[str]) -> list[str]:
    """The URLs or paths of all shards: braces are expanded, by the rules of a shell, and nothing else.

    Raises:
        ValueError: No shard, or one of a kind that cannot be read in any order.
    """
    patterns = [shards] if isinstance(shards, str) else list(shards)
    braceexpand = require_extra('braceexpand', 'WebDatasetImages needs', 'webdataset').braceexpand
    names = [name for pattern in patterns for name in braceexpand(pattern)]
    if not names:
        raise ValueError(f'shards={shards!r} names no file: {FIX}')
    for name in names:
        if not name.endswith('.tar'):
            raise ValueError(
                f'the shard {name!r} is no .tar: compressed shards cannot be read in any order, so unpack them first; '
                'commands (pipe:) are not run'
            )
    root = data_root if '://' in data_root else os.path.expanduser(data_root)
    return [name if '://' in name or not root else os.path.join(root, name) for name in names]


def open_url(url: str, storage_options: dict) -> tuple[Any, str]:
    """The file system of fsspec for a URL, and the path in it; cheap, and right in a forked worker as well."""
    return require_extra('fsspec', 'WebDatasetImages needs', 'webdataset').core.url_to_fs(url, **storage_options)


def load_index(url: str, storage_options: dict, folder: Path) -> ShardIndex:
    """Where the images of a shard lie, from the index file if there is one for this very shard.

    Raises:
        FileNotFoundError: There is no such shard.
        ValueError: It is no tar archive.
    """
    system, path = open_url(url, storage_options)
    try:
        store = getattr(system, 'fs', system)  # a cache in front of it cannot tell
        size = store.info(path)['size']
        state = f'{INDEX_VERSION} {url} {store.ukey(path)} {size}'
    except ImportError:  # fsspec says what to install
        raise
    except Exception as error:  # each store has errors of its own
        raise FileNotFoundError(f'the shard {url!r} cannot be opened ({error!r}): {FIX}') from error
    file = folder / f'{hashlib.sha256(state.encode(errors="surrogateescape")).hexdigest()[:32]}.npz'
    if file.is_file():
        index = _read_index_file(file)
        if index is not None:
            return index
    with system.open(path, 'rb') as shard:
        index = index_shard(shard, url, size)
    _write_index_file(file, index)
    return index


def index_shard(shard: BinaryIO, url: str, size: int) -> ShardIndex:
    """Looks a tar archive through; only headers and labels are read, nothing is unpacked.

    Args:
        shard: The open archive.
        url: Its name, for messages.
        size: Its bytes.

    Raises:
        ValueError: No tar archive, or a label that is no number.
    """
    names, columns = [], [array('q') for _ in range(3)]  # offset, size, label
    sample, label, has_image, extra, problems = None, -1, False, 0, []
    for member in _members(shard, url, size, problems):
        key, ending = _split(member.name)
        if key != sample:
            sample, label, has_image = key, -1, False
        if ending == 'cls':
            label = _read_label(shard, member, url)
            if has_image:
                columns[2][-1] = label
        elif f'.{ending.rpartition(".")[2]}'.lower() in EXTENSIONS:
            if has_image or '.' in ending:
                extra += 1
                continue
            has_image = True
            names.append(os.fsencode(member.name))
            for column, value in zip(columns, (member.offset_data, member.size, label)):
                column.append(value)
    if extra:
        problems.append(
            f'{extra} images are left out: NAME.jpg is one, but not NAME.more.jpg, nor a second one of NAME'
        )
    return ShardIndex(PackedPaths(names), *(np.array(column, np.int64) for column in columns), '; '.join(problems))


def _members(shard: BinaryIO, url: str, size: int, problems: list[str]) -> Iterator[tarfile.TarInfo]:
    """The regular files of an archive, in their order, up to where it ends or is damaged."""
    reader, last = _HeaderReader(shard), -1
    try:
        with tarfile.open(fileobj=reader, mode='r:') as archive:
            for member in archive:
                archive.members.clear()  # it would keep them all
                if member.offset <= last or member.offset_data + member.size > size:
                    raise tarfile.ReadError(f'{member.name!r} is not all there')
                last = member.offset
                # A sparse member says that it is larger than what is stored of it.
                if member.isreg() and not member.issparse() and not _is_hidden(member.name):
                    yield member
            reader.seek(archive.offset)
            if reader.read(tarfile.BLOCKSIZE).strip(b'\0'):  # tarfile ends without a word at a damaged header
                raise tarfile.ReadError(f'no header at byte {archive.offset}')
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        if last < 0:
            raise ValueError(f'{url!r} is no tar archive, or damaged ({error}): write it again, or {FIX}') from error
        problems.append(f'the shard is damaged ({error}): what follows its member at byte {last} is left out')


def _is_hidden(name: str) -> bool:
    return name.rpartition('/')[2].startswith('.')


class _HeaderReader:
    """A file from which nothing large is read at once, whatever the archive says about its headers."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self._read = file.seek, file.tell, file.read

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f'a header of {size} bytes')
        return self._read(size)


def _split(name: str) -> tuple[str, str]:
    """Sample and ending of a member: split at the first dot of the last part of its name."""
    folder, slash, last = name.rpartition('/')
    stem, _, ending = last.partition('.')
    return folder + slash + stem, ending


def _read_label(shard: BinaryIO, member: tarfile.TarInfo, url: str) -> int:
    position = shard.tell()
    shard.seek(member.offset_data)
    content = shard.read(min(member.size, MAX_LABEL_BYTES + 1)).strip()
    shard.seek(position)
    if not content.isdigit() or len(content) > MAX_LABEL_BYTES:
        raise ValueError(f'{member.name!r} in {url!r} is no label: {content!r} instead of a number in digits')
    return int(content)


def _read_index_file(file: Path) -> ShardIndex | None:
    """None if it is damaged: it will be written again."""
    try:
        with np.load(file, allow_pickle=False) as content:
            names = PackedPaths.from_arrays(content['names'], content['name_ends'])
            columns = [content[key] for key in ('offsets', 'sizes', 'labels')]
            problem = str(content['problem'])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    if any(column.dtype != np.int64 or column.shape != (len(names),) for column in columns):
        return None
    return ShardIndex(names, *columns, problem)


def _write_index_file(file: Path, index: ShardIndex) -> None:
    """Renamed into place, since several processes may do so at the same time."""
    names, ends = index.names.to_arrays()
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f'{file.name}.{os.getpid()}.tmp')
    with open(temporary, 'wb') as output:
        columns = dict(offsets=index.offsets, sizes=index.sizes, labels=index.labels)
        np.savez(output, names=names, name_ends=ends, problem=index.problem, **columns)
    os.replace(temporary, file)
