"""Image offsets of a tar shard: scanned once, kept in a small file, then used for random access."""

import os
import posixpath
import tarfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple
from zipfile import BadZipFile, ZipFile

import numpy as np

from mocox.datasets.folders import EXTENSIONS
from mocox.datasets.packed_paths import PackedPaths

MAX_HEADER_BYTES = 2**20  # read at once; what a tar archive says about a member is shorter
MAX_GLOBAL_CHARACTERS = 4096  # of what an archive says of all members: it is taken for each of them
MAX_LABEL_BYTES = 64
MAX_DIGITS = 18  # fit 64 bits
UNLABELLED = -1
_COMPRESSED = {  # what undoes it, and the first bytes
    'gunzip': b'\x1f\x8b',
    'bunzip2': b'BZh',
    'unxz': b'\xfd7zXZ\0',
    'unzstd': b'\x28\xb5\x2f\xfd',
}
INDEX_VERSION = 2


@dataclass(frozen=True)
class ShardIndex:
    """Image offsets of one shard.

    Args:
        names: Names of the N images, as in the archive.
        offsets: (N,) int64, bytes from the start of the shard.
        sizes: (N,) int64, bytes.
        labels: (N,) int64, -1 where there is none, ``-2 - t`` where it is the text ``texts[t]``.
        texts: Labels that are not numbers.
        problem: What was left out, in words, or an empty text.
    """

    names: PackedPaths
    offsets: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    texts: list[str]
    problem: str


class Member(NamedTuple):
    """A file in an archive, or a link to one."""

    name: str
    offset: int
    size: int


class _Entries:
    """Images as they are found, each with the label of its sample, whether that comes before or after it."""

    def __init__(self) -> None:
        self.names: list[bytes] = []
        self.columns = [array('q') for _ in range(3)]  # offset, size, label
        self.sample, self.label, self.has_image, self.extra = '', UNLABELLED, False, 0

    def enter(self, sample: str) -> None:
        if sample != self.sample:
            self.sample, self.label, self.has_image = sample, UNLABELLED, False

    def set_label(self, label: int) -> None:
        self.label = label
        if self.has_image:
            self.columns[2][-1] = label

    def add(self, member: Member) -> None:
        if self.has_image:
            self.extra += 1
            return
        self.has_image = True
        self.names.append(os.fsencode(member.name))
        for column, value in zip(self.columns, (member.offset, member.size, self.label), strict=True):
            column.append(value)


def index_shard(shard: BinaryIO, url: str, size: int) -> ShardIndex:
    """Look a tar archive through; only headers and labels are read, nothing is unpacked.

    A sample's name ends at the first dot of its last part, as in WebDataset. If no image of the archive is named so,
    the dots belong to the names (``img_0.5.jpg``), which then end at their last dot.

    Args:
        shard: The open archive.
        url: Its name, for messages.
        size: Its bytes.

    Raises:
        ValueError: No tar archive.
    """
    plain, dotted = _Entries(), _Entries()
    texts: dict[str, int] = {}
    problems: list[str] = []
    if not size:
        problems.append('the shard is empty, 0 bytes: was its download cut?')
    for member in _members(shard, url, size, problems) if size else ():
        sample, ending = _split(member.name)
        last = ending.rpartition('.')[2].lower()
        plain.enter(sample)
        dotted.enter(member.name[: len(member.name) - len(last) - 1])
        if last == 'cls':
            label = _read_label(shard, member, texts)
            dotted.set_label(label)
            if '.' not in ending:
                plain.set_label(label)
        elif f'.{last}' in EXTENSIONS:
            dotted.add(member)
            if '.' in ending:
                plain.extra += 1
            else:
                plain.add(member)
    found = plain if plain.names else dotted
    if found.extra:
        problems.append(
            f'{found.extra} images are left out: NAME.jpg is one, but not NAME.more.jpg, nor a second one of NAME'
        )
    offsets, sizes, labels = (np.array(column, np.int64) for column in found.columns)
    return ShardIndex(PackedPaths(found.names), offsets, sizes, labels, list(texts), '; '.join(problems))


def _members(shard: BinaryIO, url: str, size: int, problems: list[str]) -> Iterator[Member]:
    """The files of an archive and the links to them, in their order, up to where it ends or is damaged.

    Archives that were joined are read one after the other, as ``tar --ignore-zeros`` does.
    """
    reader, links, last = _HeaderReader(shard), _Links(), -1
    start: int | None = 0
    try:
        while start is not None:
            reader.seek(start)
            with tarfile.open(fileobj=reader, mode='r:') as archive:  # type: ignore[call-overload]  # it never writes
                for member in archive:
                    archive.members.clear()  # it would keep them all
                    _check_global(archive.pax_headers)
                    if member.offset <= last or member.offset_data + member.size > size:
                        raise tarfile.ReadError(f'{member.name!r} is not all there')
                    last = member.offset
                    found = links.resolve(member)
                    if found and not _is_hidden(member.name):
                        yield found
                end = archive.offset
            if end >= size:
                problems.append('the shard has no end: it was cut between two members, and what followed is missing')
            start = _next_header(shard, end, size)
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        if last < 0:
            shard.seek(0)
            head = shard.read(8)
            if tool := next((tool for tool, mark in _COMPRESSED.items() if head.startswith(mark)), None):
                raise ValueError(
                    f'{url!r} is compressed, so not a tar archive: unpack it with `{tool} < IN > OUT`'
                ) from error
            raise ValueError(f'{url!r} is not a tar archive, or damaged ({error}): write it again') from error
        problems.append(f'the shard is damaged ({error}): what follows its member at byte {last} is left out')
    if links.lost:
        problems.append(f'{links.lost} links are left out: what they name is not in front of them in the shard')


def _check_global(headers: dict[str, str]) -> None:
    """Raise tarfile.ReadError where an archive says more of all members than a comment and the like."""
    length = sum(len(key) + len(value) for key, value in headers.items()) if headers else 0
    if length > MAX_GLOBAL_CHARACTERS:
        raise tarfile.ReadError(f'a global header of {length} characters, at most {MAX_GLOBAL_CHARACTERS} are read')


class _Links:
    """Hard and symbolic links to files of the same archive. Nothing outside of it is followed."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[int, int]] = {}
        self.lost = 0

    def resolve(self, member: tarfile.TarInfo) -> Member | None:
        """Locate the content of an entry; None for one that is not a file, or that links to a later one."""
        name, place = posixpath.normpath(member.name), None
        if member.isreg() and not member.issparse():  # a sparse one claims more than what is stored of it
            place = member.offset_data, member.size
        elif member.islnk() or member.issym():
            folder = '' if member.islnk() else posixpath.dirname(member.name)
            place = self.files.get(posixpath.normpath(posixpath.join(folder, member.linkname)))
            self.lost += place is None
        if place is None:
            return None
        self.files[name] = place
        return Member(member.name, *place)


def _next_header(shard: BinaryIO, end: int, size: int) -> int | None:
    """Offset of an archive appended after the zeros that end one; None where nothing follows.

    Raises:
        tarfile.ReadError: Something else follows at once; ``tarfile`` ends without a word at a damaged header.
    """
    position = end
    while position < size:
        shard.seek(position)
        block = shard.read(MAX_HEADER_BYTES)
        if content := block.lstrip(b'\0'):
            place = position + (len(block) - len(content)) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
            if place == end:
                raise tarfile.ReadError(f'no header at byte {end}')
            return place
        if not block:
            break
        position += len(block)
    return None


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


def _read_label(shard: BinaryIO, member: Member, texts: dict[str, int]) -> int:
    """A number from 0 on, -1 for an empty file, or the number of a text, see :class:`ShardIndex`."""
    position = shard.tell()
    shard.seek(member.offset)
    content = shard.read(min(member.size, MAX_LABEL_BYTES)).strip()
    shard.seek(position)
    number = content.removesuffix(b'.0')  # as numpy and pandas write them
    if number.isdigit() and len(number) <= MAX_DIGITS and member.size <= MAX_LABEL_BYTES:
        return int(number)
    text = content.decode('utf-8', 'backslashreplace')
    return -2 - texts.setdefault(text, len(texts)) if text else UNLABELLED


def read_index_file(file: Path, size: int) -> ShardIndex | None:
    """Read an index; None if it is damaged or contradicts the size of the shard, so that it is rebuilt."""
    try:
        with ZipFile(file) as archive:
            if sum(part.file_size for part in archive.infolist()) > file.stat().st_size:  # it is written uncompressed
                return None
        with np.load(file, allow_pickle=False) as content:
            names = PackedPaths.from_arrays(content['names'], content['name_ends'])
            columns = [content[key] for key in ('offsets', 'sizes', 'labels')]
            texts, problem = content['texts'], str(content['problem'])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    if any(column.dtype != np.int64 or column.shape != (len(names),) for column in columns):
        return None
    offsets, sizes, labels = columns
    if texts.ndim != 1 or texts.dtype.kind != 'U' or not problem.isprintable():
        return None
    if (labels < -1 - len(texts)).any() or (
        (sizes < 0) | (sizes > size) | (offsets < 0) | (offsets > size - sizes)
    ).any():
        return None
    return ShardIndex(names, offsets, sizes, labels, texts.tolist(), problem)


def write_index_file(file: Path, index: ShardIndex) -> None:
    """Write an index atomically, as several processes may do so at once."""
    names, ends = index.names.to_arrays()
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f'{file.name}.{os.getpid()}.tmp')
    with open(temporary, 'wb') as output:
        np.savez(
            output,
            names=names,
            name_ends=ends,
            offsets=index.offsets,
            sizes=index.sizes,
            labels=index.labels,
            texts=np.array(index.texts, dtype=np.str_),
            problem=np.array(index.problem),
        )
    os.replace(temporary, file)
