"""Small files that ask for much, byte by byte."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def repeat_scan(data: bytes, times: int) -> bytes:
    """A JPEG whose last scan comes so many times more."""
    return data[:-2] + data[data.rindex(b'\xff\xda') : -2] * times + data[-2:]


def one_band_each(side: int = 16) -> bytes:
    """A baseline JPEG of three gray bands in three scans."""
    buffer = io.BytesIO()
    Image.effect_noise((side, side), 50).save(buffer, 'JPEG')
    data = buffer.getvalue()
    frame, scan = data.index(b'\xff\xc0'), data.index(b'\xff\xda')
    head, coded = data[scan : scan + 10], data[scan + 10 : -2]
    assert head[4] == 1
    of_bands = b''.join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    new_frame = b'\xff\xc0' + struct.pack('>H', 17) + data[frame + 4 : frame + 9] + b'\3' + of_bands
    scans = b''.join(head[:5] + bytes([number]) + head[6:] + coded for number in (1, 2, 3))
    return data[:frame] + new_frame + data[frame + 13 : scan] + scans + b'\xff\xd9'


def png_with(data: bytes, kind: bytes, body: bytes, times: int) -> bytes:
    """A PNG with a chunk so many times behind its header."""
    chunk = struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
    return data[:33] + chunk * times + data[33:]


def tiff_of(entries: list[tuple[int, int, int]], big: bool = False) -> bytes:
    """Header and first directory; entries of tag, count and value, all of 32 or 64 bits."""
    word, kind = ('Q', 16) if big else ('I', 4)
    rows = b''.join(struct.pack(f'<HH{word}{word}', tag, kind, count, value) for tag, count, value in entries)
    head = b'II+\0\x08\0\0\0' + struct.pack('<Q', 16) if big else b'II*\0' + struct.pack('<I', 8)
    return head + struct.pack('<Q' if big else '<H', len(entries)) + rows + struct.pack('<' + word, 0)


def tiff_strips(width: int, height: int, num: int, bits: int = 8, big: bool = False) -> bytes:
    """So many strips of one row each, all in the same place, where a 7 stands."""

    def build(offsets: int, counts: int) -> bytes:
        entries = [(256, 1, width), (257, 1, height), (258, 1, bits), (259, 1, 1), (262, 1, 1), (273, num, offsets)]
        return tiff_of([*entries, (277, 1, 1), (278, 1, 1), (279, num, counts)], big)

    start, item = len(build(0, 0)), np.dtype('<u8' if big else '<u4')
    place = start + 2 * num * item.itemsize
    numbers = [np.full(num, value, item).tobytes() for value in (place, width * bits // 8)]
    return build(start, start + num * item.itemsize) + b''.join(numbers) + struct.pack('<H', 7) * width


def tiff_pages(num: int) -> bytes:
    """Pages of 2 x 2 pixels, all with the pixels of the first."""
    pixels = 8 + num * (2 + 12 * 9 + 4)
    pages = []
    for number in range(num):
        page = tiff_of([(256, 1, 2), (257, 1, 2), (258, 1, 8), (259, 1, 1), (262, 1, 1), (273, 1, pixels), (277, 1, 1),
                      (278, 1, 2), (279, 1, 4)])[8:-4]  # fmt: skip
        following = 8 + (number + 1) * (len(page) + 4)
        pages.append(page + struct.pack('<I', following if number < num - 1 else 0))
    return b'II*\0' + struct.pack('<I', 8) + b''.join(pages[:-1]) + pages[-1] + b'\7\7\7\7'


def tiff_samples() -> bytes:
    """10,000 x 10,000 pixels of 65,535 numbers of 64 bits."""
    return tiff_of([(256, 1, 10_000), (257, 1, 10_000), (258, 1, 64), (259, 1, 1), (262, 1, 1), (273, 1, 8),
                  (277, 1, 65_535), (278, 1, 10_000), (279, 1, 4)])  # fmt: skip
