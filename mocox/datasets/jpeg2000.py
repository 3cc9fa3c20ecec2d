"""JPEG 2000 files that Pillow does not read correctly."""

import struct

from mocox.datasets.extras import require_extra
from mocox.datasets.opencv import read_with_opencv
from mocox.datasets.raw import Raw, check_size, with_bands

CODESTREAM = b'\xff\x4f\xff\x51'  # start of image and SIZ


def jpeg2000_sizes(data: bytes) -> tuple[int, int, list[int]] | None:
    """Width, height and the depth byte of each component, from the codestream's header; None if it has none."""
    start = 0 if data.startswith(CODESTREAM) else data.find(CODESTREAM) if data[4:8] == b'jP  ' else -1
    if start < 0 or len(data) < start + 42:
        return None
    x1, y1, x0, y0 = struct.unpack('>4I', data[start + 8 : start + 24])
    (count,) = struct.unpack('>H', data[start + 40 : start + 42])
    return x1 - x0, y1 - y0, list(data[start + 42 : start + 42 + 3 * count : 3])


def is_deep_jpeg2000(data: bytes) -> bool:
    """Other than 8 bits, signed or more than four bands: Pillow wraps, drops or does not stretch them."""
    sizes = jpeg2000_sizes(data)
    return sizes is not None and (len(sizes[2]) > 4 or any(depth != 7 for depth in sizes[2]))


def read_deep_jpeg2000(data: bytes) -> Raw:
    """Decode with imagecodecs; without it with OpenCV, which reads up to four unsigned bands of 8 bits or more."""
    sizes = jpeg2000_sizes(data)
    if sizes is None:
        raise ValueError('a damaged JPEG 2000')
    width, height, depths = sizes
    check_size(height, width, 2 * len(depths))
    signed, bits = depths[0] > 127, (depths[0] & 127) + 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    try:
        codecs = require_extra('imagecodecs', f'a JPEG 2000 of {len(depths)} bands of {bits} bits needs', 'scientific')
    except ImportError:
        if signed or bits < 8 or len(depths) > 4:
            raise
        return read_with_opencv(data)._replace(low=low, high=high)
    bands = codecs.jpeg2k_decode(data)
    bands = with_bands(bands)
    return Raw(bands, low, high, has_alpha=len(depths) in (2, 4), is_colour=len(depths) in (3, 4))
