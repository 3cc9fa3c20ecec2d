"""Limits on decoding. A small file can take minutes or all memory, so its headers are checked first.

Every refusal is a ``ValueError`` with the number, the limit and what to do. Sizes of images: :func:`check_size`.
"""

import io
import re
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np

MAX_SCANS = 100  # of a JPEG; encoders write about ten, libjpeg-turbo's and libtiff's own tools stop at 500 and 100
MAX_SEGMENTS = 10_000  # of a JPEG before its first scan
MAX_CHUNKS = 10_000  # of a PNG, or one in every KiB of it: encoders write 8 KiB and more
MAX_BLOCKS = 250_000  # GIF blocks before the first picture; strips or tiles of a TIFF
MAX_PAGES = 10_000  # of a TIFF
MAX_TAGS = 4096  # of a page of a TIFF
MAX_READS = 200_000  # of a DICOM, or one in every KiB of it: two for an element
MAX_INFLATED = 2**28  # of a deflated DICOM

SMALLER = 'write it again with an ordinary encoder, or leave it out'


def check_jpeg(data: bytes) -> None:
    """Refuse a JPEG with so many scans that decoding takes minutes.

    Only a progressive one, or one whose bands come one after the other, is gone through; of others the header alone.

    Raises:
        ValueError: It has more than ``MAX_SCANS``, or than ``MAX_SEGMENTS`` before them.
    """
    at, bands, progressive = 2, b'', False
    for _ in range(MAX_SEGMENTS):
        if data[at : at + 1] != b'\xff' or at + 4 > len(data):
            return  # damaged: its decoder will say so
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], 'big')
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker in _FRAMES:
            bands, progressive = data[at + 9 : at + 10], marker & 3 == 2
        elif marker == 0xDA:
            if progressive or data[at + 4 : at + 5] != bands:
                _check_scans(data, at)
            return
        at += 2 + length
    raise ValueError(f'a JPEG of more than {MAX_SEGMENTS} segments before its first scan: {SMALLER}')


_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}  # SOF
_MARKER = re.compile(rb'\xff[^\x00\xff\xd0-\xd7]')  # within compressed data: none but that which ends them


def _check_scans(data: bytes, at: int) -> None:
    """Count scans from the first one to the end of the image; what follows (a film, another image) does not count."""
    if data.count(b'\xff\xda', at) <= MAX_SCANS:  # fast, and enough for all but strange files
        return
    scans = 0
    while found := _MARKER.search(data, at):
        at = found.start()
        if data[at + 1] == 0xD9:
            return
        scans += data[at + 1] == 0xDA
        if scans > MAX_SCANS:
            raise ValueError(f'a JPEG of more than {MAX_SCANS} scans: {SMALLER}')
        at += 2 + int.from_bytes(data[at + 2 : at + 4], 'big')


def check_png(data: bytes) -> None:
    """Refuse a PNG with a great many chunks, each an object in Pillow, or with damaged pixels.

    Pillow compares no checksum of pixels: of a flipped bit it makes another picture and says nothing.

    Raises:
        ValueError: More than ``MAX_CHUNKS`` and one in every KiB, or pixels that differ from their checksum.
    """
    at, limit, view = 8, max(MAX_CHUNKS, len(data) >> 10), memoryview(data)
    for _ in range(limit + 1):
        if at + 8 > len(data):
            return
        end = at + 12 + int.from_bytes(data[at : at + 4], 'big')
        is_whole = end <= len(data)  # of a truncated one its decoder will say so
        checked = is_whole and data[at + 4 : at + 8] == b'IDAT'
        if checked and zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], 'big'):
            raise ValueError('a damaged PNG (its pixels differ from their checksum)')
        at = end
    raise ValueError(f'a PNG of more than {limit} chunks in {len(data)} bytes: {SMALLER}')


def check_gif(data: bytes) -> None:
    """Refuse a GIF with a great many blocks before its first picture.

    Raises:
        ValueError: More than ``MAX_BLOCKS``.
    """
    at = 13 + (3 << (data[10] & 7) + 1 if data[10:11] and data[10] & 128 else 0)
    blocks = 0
    while data[at : at + 1] == b'!':
        at += 2
        while at < len(data) and data[at]:
            at += 1 + data[at]
            blocks += 1
        at, blocks = at + 1, blocks + 1
        if blocks > MAX_BLOCKS:
            raise ValueError(f'a GIF with more than {MAX_BLOCKS} blocks before its first picture: {SMALLER}')


class _Layout(NamedTuple):
    """The layout of a TIFF: classic, or BigTIFF."""

    order: str
    word: str  # an offset, and the number of values of an entry
    entries: str  # their number, in front of a directory
    first: int  # where the offset of the first directory stands


def check_tiff(data: bytes) -> None:
    """Refuse a TIFF with a great many pages, strips or tiles, or more than its size allows.

    Raises:
        ValueError: More than ``MAX_PAGES`` pages, ``MAX_BLOCKS`` strips or tiles in one, or more than it can have.
    """
    order = '<' if data[:2] == b'II' else '>'
    big = data[2:4] in (b'+\0', b'\0+')
    layout = _Layout(order, 'Q', 'Q', 8) if big else _Layout(order, 'I', 'H', 4)
    entry = np.dtype([('tag', f'{order}u2'), ('type', f'{order}u2'),
                      ('count', f'{order}u{8 if big else 4}'), ('value', f'V{8 if big else 4}')])  # fmt: skip
    at, seen = _number(data, layout.first, order + layout.word), set()
    while at and at not in seen:
        seen.add(at)
        if len(seen) > MAX_PAGES:
            raise ValueError(f'a TIFF of more than {MAX_PAGES} pages: write a file for each, or leave it out')
        num = _number(data, at, order + layout.entries)
        start = at + struct.calcsize(order + layout.entries)
        end = start + num * entry.itemsize
        if end > len(data):
            return  # damaged: its reader will say so
        if num > MAX_TAGS:
            raise ValueError(f'a TIFF of {num} tags, more than the {MAX_TAGS} that are read: {SMALLER}')
        entries = np.frombuffer(data, entry, num, start)
        _check_blocks({int(tag): row for tag, row in zip(entries['tag'], entries)}, order)
        at = _number(data, end, order + layout.word)


def _number(data: bytes, at: int, form: str) -> int:
    """One number; 0 where the file ends before it."""
    size = struct.calcsize(form)
    return struct.unpack(form, data[at : at + size])[0] if 0 <= at <= len(data) - size else 0


WIDTH, HEIGHT, ROWS, TILE_WIDTH, TILE_HEIGHT, BANDS, DEPTH, TILE_DEPTH = 256, 257, 278, 322, 323, 277, 32997, 32998


def _check_blocks(entries: dict[int, Any], order: str) -> None:
    count = max((int(entries[tag]['count']) for tag in (273, 279, 324, 325) if tag in entries), default=0)
    if count <= 1:
        return
    value = {tag: _value(entries[tag], order) for tag in entries if tag in _SIZES}
    width, height, bands = (max(value.get(tag, 1), 1) for tag in (WIDTH, HEIGHT, BANDS))
    across = _parts(width, value.get(TILE_WIDTH, 0))
    down = _parts(height, value.get(TILE_HEIGHT) or value.get(ROWS, 0))
    deep = _parts(max(value.get(DEPTH, 1), 1), value.get(TILE_DEPTH, 1))
    possible = across * down * deep * bands
    if count > min(possible, MAX_BLOCKS):
        raise ValueError(
            f'a TIFF of {count} strips or tiles, of which its {width} x {height} pixels can have {possible}, and at '
            f'most {MAX_BLOCKS} are read: write it again with larger ones'
        )


_SIZES = {WIDTH, HEIGHT, ROWS, TILE_WIDTH, TILE_HEIGHT, BANDS, DEPTH, TILE_DEPTH}
_TYPES = {1: 'B', 3: 'H', 4: 'I', 16: 'Q'}  # of TIFF, those that sizes have


def _value(entry: Any, order: str) -> int:
    """The first number of an entry that stands in it."""
    form = _TYPES.get(int(entry['type']))
    return _number(entry['value'].tobytes(), 0, order + form) if form else 0


def _parts(whole: int, part: int) -> int:
    """Number of parts of a length; 1 if the length of a part is unknown."""
    return -(-whole // part) if part else 1


CHECKS = (
    (b'\xff\xd8', check_jpeg),
    (b'\x89PNG', check_png),
    (b'GIF8', check_gif),
    *((signature, check_tiff) for signature in (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')),
)


def check_structure(data: bytes) -> None:
    """The check that belongs to a file, by its first bytes; formats without one bound their work by their pixels.

    Raises:
        ValueError: See the checks.
    """
    for signature, check in CHECKS:
        if data.startswith(signature):
            check(data)
            return


class CountedReads(io.BytesIO):
    """A file in memory that limits the number of reads of a parser in Python.

    Raises:
        ValueError: In :meth:`read`, at one too many.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.left = self.limit = max(MAX_READS, len(data) >> 10)

    def read(self, size: int | None = -1) -> bytes:
        """Read as from any file."""
        self.left -= 1
        if size is None or size < 0:  # all at once: what pydicom unpacks without a limit
            raise ValueError('a deflated DICOM without a preamble: write it again uncompressed')
        if self.left < 0:
            raise ValueError(f'more than {self.limit // 2} elements: {SMALLER}')
        return super().read(size)
