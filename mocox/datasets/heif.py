"""HEIC by pillow-heif, and AVIF of more than 8 bits, of which Pillow keeps 8, by imagecodecs."""

import io
from importlib.util import find_spec

import numpy as np

from mocox.datasets.extras import require_extra
from mocox.datasets.number_ranges import fixed_range
from mocox.datasets.raw import Raw, check_size, with_bands

HEIF_BRANDS = (b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1', b'msf1')
PROPERTIES = 2**16  # of an AVIF, in front of the pixels
HIGH, TWELVE = 0x40, 0x20  # bits of the third byte of av1C


def is_heif(data: bytes) -> bool:
    """HEIC and its kin; AVIF is Pillow's."""
    return data[4:8] == b'ftyp' and data[8:12] in HEIF_BRANDS and b'avif' not in data[8:40]


def read_heif(data: bytes) -> Raw:
    """Read with pillow-heif, at the depth of the file."""
    heif = require_extra('pillow_heif', 'HEIC files need', 'heif')
    found = heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    check_size(found.size[1], found.size[0], 8)
    bands = with_bands(np.array(found))  # a copy: pillow-heif 1.3 frees the pixels with its own object
    count = bands.shape[2]
    low, high = fixed_range(bands.dtype)
    return Raw(bands, low, high, count in (2, 4), count >= 3, pages=len(found))


def avif_bits(data: bytes) -> int | None:
    """Bits of each band, from the configuration of its codec; None for what is not an AVIF."""
    if data[4:8] != b'ftyp' or b'avif' not in data[8:40]:
        return None
    at = data.find(b'av1C', 0, PROPERTIES)
    flags = data[at + 6] if 0 <= at < len(data) - 6 else 0
    return (12 if flags & TWELVE else 10) if flags & HIGH else 8


def is_deep_avif(data: bytes) -> bool:
    """More than 8 bits; without imagecodecs Pillow's 8 of them are taken."""
    return (avif_bits(data) or 8) > 8 and find_spec('imagecodecs') is not None


def decode_deep_avif(data: bytes) -> Raw:
    """Decode with imagecodecs, not turned; of an animation the first picture."""
    import imagecodecs

    bands = imagecodecs.avif_decode(data, index=0)
    bands = with_bands(bands)
    count = bands.shape[2]
    return Raw(bands, 0, 2 ** (avif_bits(data) or 8) - 1, count in (2, 4), count >= 3)
