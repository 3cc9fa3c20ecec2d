"""JPEG of 12 bits for pydicom, whose own plugins leave it to a library under the GPL: by imagecodecs."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

from pydicom import uid

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

DECODER_DEPENDENCIES = {uid.JPEGExtended12Bit: ('imagecodecs>=2024.9.22',)}  # the name is pydicom's


def is_available(syntax: str) -> bool:
    """True if frames of this transfer syntax can be decoded."""
    return syntax in DECODER_DEPENDENCIES and find_spec('imagecodecs') is not None


def decode_frame(source: bytes, runner: 'DecodeRunner') -> bytes:
    """The numbers of one frame, row by row.

    Args:
        source: The JPEG.
        runner: Is told how wide the numbers are.
    """
    import imagecodecs

    values = imagecodecs.jpeg_decode(source)
    runner.set_option('bits_allocated', 8 * values.dtype.itemsize)
    return values.tobytes()
