"""Decode image files: plain JPEG by fast decoders, 8 bits by Pillow, the rest by :mod:`readers`.

The fast ones are simplejpeg where it is installed (the extra ``fast``), else OpenCV; their result is Pillow's.
"""

from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from mocox.datasets.deep_jpeg import is_deep_jpeg
from mocox.datasets.limits import check_structure
from mocox.datasets.orientation import orientation_of, turn
from mocox.datasets.pixels import RGB, Pixels
from mocox.datasets.raw import Raw
from mocox.datasets.readers import FORMATS, load, needs_own_reader, open_with_pillow, read_raw, stated_errors

try:
    import simplejpeg
except ImportError:  # an extra
    simplejpeg = None

__all__ = ['FORMATS', 'Reduction', 'decode', 'to_rgb']

# From the height and width of an image to the factor by which a JPEG may be shrunk as it is decoded: 1, 2, 4 or 8.
Reduction = Callable[[int, int], int]
REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


def decode(data: bytes, reduction: Reduction | None = None, pixels: Pixels = RGB, frame: int = 0) -> np.ndarray:
    """Decode an image file.

    The orientation noted in EXIF is applied; of an animation or of several pages the first counts. Formats are told by
    content, not by name; those of :data:`mocox.datasets.readers.READERS` are read. Pillow's limit on the number of
    pixels (twice ``PIL.Image.MAX_IMAGE_PIXELS``, by default 179 million) holds for every format.

    Args:
        data: The file.
        reduction: Asked for JPEGs; by default they keep their size. The other formats always do.
        pixels: Which bands count and what their numbers mean. By default red, green and blue of 8 bits: alpha is
            dropped, as ``convert('RGB')`` does it; gray and palette images become RGB; more bits are scaled by the
            range that the file states, not clipped.
        frame: Number of the frame of a multi-frame DICOM.

    Returns:
        (H, W, C) uint8, for other ``pixels`` uint16 or float32.

    Raises:
        MissingExtraError: The file needs a library that is not installed.
        ValueError: No image, one of other bands, one whose values have no fixed range, or one that would take a decoder
            minutes, see :mod:`mocox.datasets.limits`.
        OSError: A damaged image, in Pillow's words.
    """
    with stated_errors():
        check_structure(data)
        return _decode(data, reduction, pixels, frame)


def _decode(data: bytes, reduction: Reduction | None, pixels: Pixels, frame: int) -> np.ndarray:
    is_jpeg = data.startswith(b'\xff\xd8')
    if not is_jpeg and (needs_own_reader(data) or not pixels.is_rgb8):
        return pixels(read_raw(data, frame))
    try:
        image = open_with_pillow(data)  # reads the header only
    except ValueError:
        if not is_deep_jpeg(data):
            raise
        return pixels(read_raw(data))
    if image.format == 'JPEG' and image.mode in ('RGB', 'L') and _is_whole_jpeg(data):
        found = _decode_jpeg(data, 1 if reduction is None else reduction(image.height, image.width), image)
        if found is not None:
            return found if pixels.is_rgb8 else pixels(_of_jpeg(found, image.mode))
    if not pixels.is_rgb8 or image.mode.startswith(('I', 'F')):
        return pixels(read_raw(data))
    return to_rgb(load(data, image))


def to_rgb(image: Image.Image) -> np.ndarray:
    """The pixels of an opened image of 8 bits; see :func:`decode`."""
    image = turn(image)
    if image.mode == 'P' and 'transparency' in image.info:
        image = image.convert('RGBA')  # the same colours as convert('RGB'), without its warning
    return np.array(image if image.mode == 'RGB' else image.convert('RGB'))


def _of_jpeg(found: np.ndarray, mode: str) -> Raw:
    return Raw(found[:, :, :1], 0, 255) if mode == 'L' else Raw(found, 0, 255, is_colour=True)


def _decode_jpeg(data: bytes, factor: int, image: Image.Image) -> np.ndarray | None:
    """RGB, turned as its EXIF or XMP says; None where the file is damaged."""
    noted = 'exif' in image.info or 'xmp' in image.info
    orientation = orientation_of(image) if noted else 1
    pixels = _decode_plain_jpeg(data, factor)
    return pixels if pixels is None or orientation == 1 else turn(pixels, orientation)


def _decode_plain_jpeg(data: bytes, factor: int) -> np.ndarray | None:
    if simplejpeg is not None and factor == 1:
        try:
            return simplejpeg.decode_jpeg(data)
        except ValueError:
            return None
    buffer = np.frombuffer(data, np.uint8)
    as_stored = cv2.IMREAD_IGNORE_ORIENTATION  # OpenCV does not understand every way to note it
    if factor == 1 and hasattr(cv2, 'IMREAD_COLOR_RGB'):  # from OpenCV 4.11 on
        return cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB | as_stored)
    pixels = cv2.imdecode(buffer, REDUCED.get(factor, cv2.IMREAD_COLOR) | as_stored)
    return None if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)


def _is_whole_jpeg(data: bytes) -> bool:
    """True if the file ends with the end-of-image marker; a file with trailing bytes is left to Pillow as well.

    Before version 5, OpenCV fills what a truncated file lacks with gray and says nothing; Pillow refuses it.
    """
    return data.endswith(b'\xff\xd9')
