"""Readers of image files, chosen by content: what each recognises, and which extra it needs."""

import io
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from mocox.datasets import dicom, tiff
from mocox.datasets.deep_jpeg import is_deep_jpeg, read_deep_jpeg
from mocox.datasets.extras import MissingExtraError
from mocox.datasets.heif import decode_deep_avif, is_deep_avif, is_heif, read_heif
from mocox.datasets.jpeg2000 import is_deep_jpeg2000, read_deep_jpeg2000
from mocox.datasets.jpeg_xl import is_jpeg_xl, read_jpeg_xl
from mocox.datasets.limits import check_structure
from mocox.datasets.netpbm import is_netpbm, read_netpbm
from mocox.datasets.numpy_files import is_numpy, read_numpy
from mocox.datasets.opencv import read_with_opencv
from mocox.datasets.orientation import orientation_of, turn
from mocox.datasets.raw import Raw, check_size, with_bands
from mocox.datasets.unsupported import describe_unsupported

# What Pillow may take a file for, whatever its name. Not among them: EPS, for which it starts Ghostscript.
_READ = {'AVIF', 'BMP', 'DIB', 'GIF', 'JPEG', 'JPEG2000', 'MPO', 'PNG', 'PPM', 'TGA', 'TIFF', 'WEBP'}
Image.init()
FORMATS = [name for name in Image.ID if name in _READ]  # those that this Pillow has

DICOM = 'a DICOM'
PNG = b'\x89PNG\r\n\x1a\n'
# Chunks of a PNG that say something about its pixels; the others may be damaged.
PIXEL_CHUNKS = (b'IHDR', b'PLTE', b'tRNS', b'IDAT', b'IEND')


class Reader(NamedTuple):
    """One way to read files.

    Args:
        name: Name of the format, for messages.
        recognises: Whether a file is of this kind.
        read: Return the numbers of a file.
    """

    name: str
    recognises: Callable[[bytes], bool]
    read: Callable[[bytes], Raw]


def read_raw(data: bytes, frame: int = 0) -> Raw:
    """All numbers of an image file, turned as its EXIF says, with what it says about them.

    Args:
        data: The file.
        frame: Number of the frame of a multi-frame DICOM.

    Raises:
        MissingExtraError: The file needs a library that is not installed.
        ValueError: No image, or a damaged one.
        OSError: A damaged one, in Pillow's words.
    """
    with stated_errors():
        check_structure(data)
        reader = next(reader for reader in READERS if reader.recognises(data))  # the last takes every file
        with stated_errors(reader.name):
            raw = reader.read(data) if not frame else dicom.read(data, frame)
    return raw._replace(name=reader.name) if raw.name == 'image' else raw


@contextmanager
def stated_errors(name: str = 'an image') -> Iterator[None]:
    """Turn what a library raises for damaged bytes into ``ValueError``; ``OSError`` stays."""
    try:
        yield
    except (ValueError, OSError, MissingExtraError, Image.DecompressionBombError):
        raise
    except Exception as error:  # struct.error, cv2.error, RecursionError, MemoryError, those of each library ...
        raise ValueError(f'{name} that cannot be read ({type(error).__name__}: {error})') from error


def needs_own_reader(data: bytes) -> bool:
    """True if Pillow's 8-bit RGB does not represent the file."""
    return any(reader.recognises(data) for reader in READERS[:-1])


def open_with_pillow(data: bytes) -> Image.Image:
    """Read the header. A PNG whose remarks are damaged is opened without them.

    Raises:
        ValueError: No image that Pillow reads.
    """
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:  # its message names the buffer
        pass
    except (ValueError, SyntaxError, OverflowError):
        if not data.startswith(PNG):
            raise
    if data.startswith(PNG):
        try:
            return Image.open(io.BytesIO(pixels_of_png(data)), formats=['PNG'])
        except (UnidentifiedImageError, SyntaxError) as error:
            raise ValueError(f'a damaged PNG ({error.__cause__ or "its header cannot be read"})') from None
    raise ValueError(describe_unsupported(data)) from None


def pixels_of_png(data: bytes) -> bytes:
    """Reduce a PNG to its pixel chunks, without texts, profiles and EXIF.

    Raises:
        ValueError: It ends too early.
    """
    kept, at = [PNG], len(PNG)
    while at < len(data):
        if at + 12 > len(data):
            raise ValueError('a truncated PNG')
        (length,) = struct.unpack('>I', data[at : at + 4])
        if data[at + 4 : at + 8] in PIXEL_CHUNKS:
            kept.append(data[at : at + 12 + length])
        at += 12 + length
    return b''.join(kept)


def load(data: bytes, opened: Image.Image | None = None) -> Image.Image:
    """Decode an image, which may be open already; a PNG whose remarks are damaged without them."""
    image = opened or open_with_pillow(data)
    if isinstance(image, ImageFile) and image.format in ('JPEG', 'MPO'):
        image.decodermaxblock = max(len(data), 1)  # in one piece: libjpeg cannot stop within arithmetic coding
    try:
        image.load()
    except ValueError:  # a remark behind the pixels
        if image.format != 'PNG':
            raise
        image = Image.open(io.BytesIO(pixels_of_png(data)), formats=['PNG'])
        image.load()
    return image


def read_with_pillow(data: bytes) -> Raw:
    """Read the kinds that Pillow reads well: 8 bits of any mode, 16 bits of gray."""
    image = load(data)
    pages, name = getattr(image, 'n_frames', 1), image.format or 'image'
    bits, nodata = max(tiff.bits_of(image)), tiff.nodata_of(getattr(image, 'tag_v2', {}).get(tiff.NODATA))
    image = turn(image)
    if image.mode.startswith('I'):  # I;16, I;16B, I;16L, I
        bands = np.asarray(image)
        low, high = (0, 2**bits - 1) if image.mode.startswith('I;16') else (None, None)
        bands, clear = bands[:, :, None], image.info.get('transparency')
        has_alpha = False
        if image.format == 'PNG' and isinstance(clear, int) and high is not None:  # the level that is seen through
            has_alpha = True
            bands = np.concatenate([bands, np.where(bands == clear, 0, high).astype(bands.dtype)], axis=2)
        return Raw(bands, low, high, has_alpha, pages=pages, name=name, nodata=nodata)
    if image.mode == 'F':
        return Raw(np.asarray(image)[:, :, None], None, None, pages=pages, name=name, nodata=nodata)
    has_alpha = image.mode in ('LA', 'RGBA', 'PA', 'La', 'RGBa') or 'transparency' in image.info
    gray = image.mode in ('1', 'L', 'LA', 'La')
    bands = np.array(image.convert({(True, True): 'LA', (True, False): 'L', (False, True): 'RGBA'}.get(
        (gray, has_alpha), 'RGB')))  # fmt: skip
    bands = with_bands(bands)
    return Raw(bands, 0, 255, has_alpha, is_colour=not gray, pages=pages, name=name)


def is_deep_png(data: bytes) -> bool:
    """16 bits and more than gray, of which Pillow keeps 8."""
    return data.startswith(PNG) and data[24:25] == b'\x10' and data[25:26] != b'\x00'


def read_deep_png(data: bytes) -> Raw:
    """Decode with OpenCV after Pillow has found no damage: OpenCV does not report it."""
    image = load(data)
    raw = read_with_opencv(pixels_of_png(data))
    if data[25:26] == b'\x04':  # gray and alpha, which OpenCV spreads over four bands
        raw = raw._replace(bands=raw.bands[:, :, [0, 3]], has_alpha=True, is_colour=False)
    return raw._replace(bands=turn(raw.bands, orientation_of(image)))


def read_deep_avif(data: bytes) -> Raw:
    """Read all bits, turned as Pillow does it."""
    image = open_with_pillow(data)
    check_size(image.height, image.width, 8)
    raw = decode_deep_avif(data)
    return raw._replace(bands=turn(raw.bands, orientation_of(image)), pages=getattr(image, 'n_frames', 1))


READERS = (
    Reader(DICOM, dicom.is_dicom, dicom.read),
    Reader('a NumPy array', is_numpy, read_numpy),
    Reader('a HEIC', is_heif, read_heif),
    Reader('an AVIF', is_deep_avif, read_deep_avif),
    Reader('a JPEG', is_deep_jpeg, read_deep_jpeg),
    Reader('a JPEG XL', is_jpeg_xl, read_jpeg_xl),
    Reader('a JPEG 2000', is_deep_jpeg2000, read_deep_jpeg2000),
    Reader('a PNG', is_deep_png, read_deep_png),
    Reader('a PNM', is_netpbm, read_netpbm),
    Reader('a TIFF', tiff.is_scientific, tiff.read),
    Reader('an image', lambda data: True, read_with_pillow),
)
