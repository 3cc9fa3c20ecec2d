"""From the bytes of an image file to RGB uint8: what Pillow reads, plain JPEG by faster decoders of equal result.

These are simplejpeg where it is installed (the extra ``fast``), else OpenCV.
"""

import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

try:
    import simplejpeg
except ImportError:  # an extra
    simplejpeg = None

# What Pillow may take a file for, whatever its name. Not among them: EPS, for which it starts Ghostscript.
_READ = {'AVIF', 'BMP', 'DIB', 'GIF', 'JPEG', 'JPEG2000', 'MPO', 'PNG', 'PPM', 'TGA', 'TIFF', 'WEBP'}
Image.init()
FORMATS = [name for name in Image.ID if name in _READ]  # those that this Pillow has

# From the height and width of an image to the factor by which a JPEG may be shrunk as it is decoded: 1, 2, 4 or 8.
Reduction = Callable[[int, int], int]
REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}


def decode(data: bytes, reduction: Reduction | None = None) -> np.ndarray:
    """Decodes an image file.

    The orientation noted in EXIF is applied. Alpha is dropped, as ``convert('RGB')`` does it; gray and palette images
    become RGB; 16-bit gray is scaled by its whole range, not clipped; of an animation the first frame counts. The
    formats are those of ``FORMATS``. Pillow's limit on the number of pixels (twice ``PIL.Image.MAX_IMAGE_PIXELS``, by
    default 179 million) holds for every format.

    Args:
        data: The file.
        reduction: Asked for JPEGs; by default they keep their size. The other formats always do.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ValueError: No image, or one whose values have no fixed range.
        Exception: Whatever Pillow raises for damaged bytes.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)  # reads the header only
    except UnidentifiedImageError:  # its message names the buffer
        raise ValueError('not an image of a format that mocox reads' if data else 'the file is empty') from None
    if image.format == 'JPEG' and image.mode in ('RGB', 'L') and _is_whole_jpeg(data):
        factor = 1 if reduction is None else reduction(image.height, image.width)
        pixels = _decode_jpeg(data, factor, 'exif' in image.info)
        if pixels is not None:
            return pixels
    return to_rgb(image)


def to_rgb(image: Image.Image) -> np.ndarray:
    """The pixels of an opened image; see :func:`decode`."""
    return np.array(_to_rgb(ImageOps.exif_transpose(image)))


def _decode_jpeg(data: bytes, factor: int, has_exif: bool) -> np.ndarray | None:
    """RGB with EXIF's orientation applied, which OpenCV does; None where the file is damaged."""
    if simplejpeg is not None and factor == 1 and not has_exif:
        try:
            return simplejpeg.decode_jpeg(data)
        except ValueError:
            return None
    buffer = np.frombuffer(data, np.uint8)
    if factor == 1 and hasattr(cv2, 'IMREAD_COLOR_RGB'):  # from OpenCV 4.11 on
        return cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB)
    pixels = cv2.imdecode(buffer, REDUCED.get(factor, cv2.IMREAD_COLOR))
    return None if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)


def _is_whole_jpeg(data: bytes) -> bool:
    """Whether the file ends with the end-of-image marker; one with anything behind it is left to Pillow as well.

    Before version 5, OpenCV fills what a truncated file lacks with gray and says nothing; Pillow refuses it.
    """
    return data.endswith(b'\xff\xd9')


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith('I'):  # I;16, I;16B, I;16L, I
        return _from_16_bit(image)
    if image.mode == 'F':
        raise ValueError('a floating-point image has no fixed range: convert it to 8 or 16 bits per channel')
    if image.mode == 'P' and 'transparency' in image.info:
        image = image.convert('RGBA')  # the same colours as convert('RGB'), without its warning
    return image.convert('RGB')


def _from_16_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f'a 32-bit image with values from {values.min()} to {values.max()} has no fixed range: '
            'convert it to 8 or 16 bits per channel'
        )
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8)).convert(
        'RGB'
    )  # 65535 = 257 * 255
