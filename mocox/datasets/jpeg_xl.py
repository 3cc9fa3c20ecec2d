"""JPEG XL, by imagecodecs; what its header says is read here (ISO/IEC 18181-1, D.2 and D.3)."""

from typing import NamedTuple

from mocox.datasets.extras import require_extra
from mocox.datasets.raw import Raw, check_size, with_bands

BARE, BOXED = b'\xff\x0a', b'\0\0\0\x0cJXL \r\n\x87\n'
RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width to height
HEADER_BYTES = 64


class Header(NamedTuple):
    """The header of a file, before it is turned.

    Args:
        height: In pixels.
        width: In pixels.
        bits: Of a number.
        is_float: Whether the numbers are floating point.
        orientation: 1 to 8, as in EXIF.
        is_animated: Whether there may be several pictures.
        extra: Bands beside gray or colour, alpha among them.
    """

    height: int
    width: int
    bits: int = 8
    is_float: bool = False
    orientation: int = 1
    is_animated: bool = False
    extra: int = 0


class _Bits:
    """Numbers of so many bits, the least significant first."""

    def __init__(self, data: bytes) -> None:
        self.left = int.from_bytes(data, 'little')

    def take(self, num: int) -> int:
        value, self.left = self.left & (1 << num) - 1, self.left >> num
        return value

    def choose(self, *cases: tuple[int, int]) -> int:
        """One of four: (number, bits that are added)."""
        number, num = cases[self.take(2)]
        return number + self.take(num)


def is_jpeg_xl(data: bytes) -> bool:
    """Its codestream, or its container."""
    return data.startswith((BARE, BOXED))


def header_of(data: bytes) -> Header:
    """Parse the first bits of the codestream.

    Raises:
        ValueError: A container that holds none.
    """
    bits = _Bits(_codestream(data)[2:])
    height, width = _size(bits)
    if bits.take(1):  # all as usual: 8 bits, no further bands
        return Header(height, width)
    orientation, is_animated = 1, False
    if bits.take(1):
        orientation = 1 + bits.take(3)
        if bits.take(1):
            _size(bits)  # at which it wants to be shown
        if bits.take(1):
            _preview(bits)
        is_animated = bool(bits.take(1))
        if is_animated:
            bits.choose((100, 0), (1000, 0), (1, 10), (1, 30))
            bits.choose((1, 0), (1001, 0), (1, 8), (1, 10))
            bits.choose((0, 0), (0, 3), (0, 16), (0, 32))
            bits.take(1)
    is_float = bool(bits.take(1))
    depth = (
        bits.choose((32, 0), (16, 0), (24, 0), (1, 6)) if is_float else bits.choose((8, 0), (10, 0), (12, 0), (1, 6))
    )
    bits.take(4 * is_float)  # of the exponent
    bits.take(1)
    extra = bits.choose((0, 0), (1, 0), (2, 4), (1, 12))
    return Header(height, width, depth, is_float, orientation, is_animated, extra)


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)

    def side() -> int:
        return 8 * (1 + bits.take(5)) if small else 1 + bits.take((9, 13, 18, 30)[bits.take(2)])

    height, ratio = side(), bits.take(3)
    if not ratio:
        return height, side()
    across, down = RATIOS[ratio - 1]
    return height, height * across // down


def _preview(bits: _Bits) -> None:
    if bits.take(1):  # in units of 8
        sides = ((16, 0), (32, 0), (1, 5), (33, 9))
    else:
        sides = ((1, 6), (65, 8), (321, 10), (1345, 12))
    bits.choose(*sides)
    if not bits.take(3):
        bits.choose(*sides)


def _codestream(data: bytes) -> bytes:
    """Its first bytes, bare or in the first box of a container that holds some."""
    at = 0
    while not data.startswith(BARE, at):
        length, kind = int.from_bytes(data[at : at + 4], 'big'), data[at + 4 : at + 8]
        start = at + 8
        if length == 1:
            length, start = int.from_bytes(data[start : start + 8], 'big'), start + 8
        if kind in (b'jxlc', b'jxlp'):
            return data[start + 4 * (kind == b'jxlp') :][:HEADER_BYTES]
        if length < 8 or at + length >= len(data):
            raise ValueError('a JPEG XL without an image')
        at += length
    return data[at : at + HEADER_BYTES]


def read_jpeg_xl(data: bytes) -> Raw:
    """Decode with imagecodecs, which turns it; of an animation the first picture.

    Raises:
        MissingExtraError: It is not installed.
        ValueError: It gives another size than the header says.
    """
    codecs = require_extra('imagecodecs', 'JPEG XL files need', 'scientific')
    header = header_of(data)
    check_size(header.height, header.width, 4 * (3 + header.extra))
    bands = codecs.jpegxl_decode(data, index=0) if header.is_animated else codecs.jpegxl_decode(data)
    bands = with_bands(bands)
    size = (header.height, header.width)[:: -1 if header.orientation > 4 else 1]
    if header.extra > 1 and bands.shape[1:] == size:  # further bands come one after the other
        bands = bands.transpose(1, 2, 0)
    if bands.shape[:2] != size:
        raise ValueError(f'a JPEG XL of {size[0]} x {size[1]} pixels, of which a decoder made {bands.shape}')
    count = bands.shape[2]
    low, high = (None, None) if header.is_float else (0, 2**header.bits - 1)
    has_alpha = header.extra > 0 and count in (2, 4)
    return Raw(bands, low, high, has_alpha, is_colour=count - header.extra == 3)
