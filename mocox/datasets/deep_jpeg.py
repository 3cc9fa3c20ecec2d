"""JPEGs outside the baseline, by imagecodecs: 12 bits, lossless of up to 16 bits, JPEG-LS."""

from typing import NamedTuple

from PIL import Image

from mocox.datasets.extras import require_extra
from mocox.datasets.limits import MAX_SEGMENTS
from mocox.datasets.orientation import TAG, turn
from mocox.datasets.raw import Raw, check_size, with_bands

JPEG_LS = 0xF7
FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, 0xCB, JPEG_LS}  # not hierarchical
EXIF = b'Exif\0\0'


class Frame(NamedTuple):
    """The header of a JPEG."""

    marker: int
    bits: int
    height: int
    width: int
    bands: int
    exif: bytes


def frame_of(data: bytes) -> Frame | None:
    """None for what is not a JPEG, or a damaged one."""
    at, exif = 2, b''
    for _ in range(MAX_SEGMENTS if data.startswith(b'\xff\xd8') else 0):
        if data[at : at + 1] != b'\xff' or at + 10 > len(data):
            return None
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], 'big')
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker in FRAMES:
            height, width = (int.from_bytes(data[at + i : at + i + 2], 'big') for i in (5, 7))
            return Frame(marker, data[at + 4], height, width, data[at + 9], exif)
        if marker == 0xE1 and data.startswith(EXIF, at + 4):
            exif = data[at + 4 : at + 2 + length]
        at += 2 + length
    return None


def is_deep_jpeg(data: bytes) -> bool:
    """Other than 8 bits, or JPEG-LS, which Pillow does not read."""
    frame = frame_of(data)
    return frame is not None and (frame.bits != 8 or frame.marker == JPEG_LS)


def read_deep_jpeg(data: bytes) -> Raw:
    """The numbers, turned as EXIF says.

    Raises:
        MissingExtraError: imagecodecs is not installed.
        ValueError: A damaged one.
    """
    frame = frame_of(data)
    if frame is None:
        raise ValueError('a damaged JPEG')
    check_size(frame.height, frame.width, 2 * frame.bands)
    kind = 'a JPEG-LS needs' if frame.marker == JPEG_LS else f'a JPEG of {frame.bits} bits needs'
    codecs = require_extra('imagecodecs', kind, 'scientific')
    bands = (codecs.jpegls_decode if frame.marker == JPEG_LS else codecs.jpeg_decode)(data)
    bands = turn(with_bands(bands), _orientation(frame.exif))
    return Raw(bands, 0, 2**frame.bits - 1, is_colour=frame.bands == 3)


def _orientation(exif: bytes) -> int:
    found = Image.Exif()
    try:
        found.load(exif)
        value = found.get(TAG, 1)
    except Exception:  # Pillow raises anything: what is not EXIF says nothing
        return 1
    return value if value in range(1, 9) else 1
