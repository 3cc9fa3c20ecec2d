"""Readers of image files, chosen by content: what each recognises, and which extra it needs."""

import io
import math
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from mocox.datasets import dicom, tiff
from mocox.datasets.extras import MissingExtraError, require_extra
from mocox.datasets.limits import check_structure
from mocox.datasets.number_ranges import fixed_range
from mocox.datasets.opencv import read_with_opencv
from mocox.datasets.orientation import orientation_of, turn
from mocox.datasets.pixels import MAX_BYTES, Raw, check_size

# What Pillow may take a file for, whatever its name. Not among them: EPS, for which it starts Ghostscript.
_READ = {'AVIF', 'BMP', 'DIB', 'GIF', 'JPEG', 'JPEG2000', 'MPO', 'PNG', 'PPM', 'TGA', 'TIFF', 'WEBP'}
Image.init()
FORMATS = [name for name in Image.ID if name in _READ]  # those that this Pillow has

PNG = b'\x89PNG\r\n\x1a\n'
# Chunks of a PNG that say something about its pixels; the others may be damaged.
PIXEL_CHUNKS = (b'IHDR', b'PLTE', b'tRNS', b'IDAT', b'IEND')
CODESTREAM = b'\xff\x4f\xff\x51'  # start of image and SIZ, of JPEG 2000
HEIF_BRANDS = (b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1', b'msf1')


class Reader(NamedTuple):
    """One way to read files.

    Args:
        name: Of the format, for people.
        recognises: Whether a file is of this kind.
        read: From the file to its numbers.
    """

    name: str
    recognises: Callable[[bytes], bool]
    read: Callable[[bytes], Raw]


def read_raw(data: bytes, frame: int = 0) -> Raw:
    """All numbers of an image file, turned as its EXIF says, with what it says about them.

    Args:
        data: The file.
        frame: Which one of a DICOM of several.

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
    """Turns what a library raises for damaged bytes into ``ValueError``; ``OSError`` stays."""
    try:
        yield
    except (ValueError, OSError, MissingExtraError, Image.DecompressionBombError):
        raise
    except Exception as error:  # struct.error, cv2.error, RecursionError, MemoryError, those of each library ...
        raise ValueError(f'{name} that cannot be read ({type(error).__name__}: {error})') from error


def needs_own_reader(data: bytes) -> bool:
    """Whether Pillow's RGB of 8 bits is not what the file means."""
    return any(reader.recognises(data) for reader in READERS[:-1])


def open_with_pillow(data: bytes) -> Image.Image:
    """Reads the header. A PNG whose remarks are damaged is opened without them.

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
    raise ValueError('not an image of a format that mocox reads' if data else 'the file is empty') from None


def pixels_of_png(data: bytes) -> bytes:
    """A PNG without what does not concern its pixels: texts, profiles, EXIF.

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


def load(data: bytes) -> Image.Image:
    """Opens an image and decodes it; a PNG whose remarks are damaged without them."""
    image = open_with_pillow(data)
    try:
        image.load()
    except ValueError:  # a remark behind the pixels
        if image.format != 'PNG':
            raise
        image = Image.open(io.BytesIO(pixels_of_png(data)), formats=['PNG'])
        image.load()
    return image


def read_with_pillow(data: bytes) -> Raw:
    """What Pillow reads well: 8 bits of any kind, 16 bits of gray."""
    image = load(data)
    pages, name = getattr(image, 'n_frames', 1), image.format or 'image'
    bits, nodata = max(tiff.bits_of(image)), tiff.nodata_of(getattr(image, 'tag_v2', {}).get(tiff.NODATA))
    image = turn(image)
    if image.mode.startswith('I'):  # I;16, I;16B, I;16L, I
        bands = np.asarray(image)
        low, high = (0, 2**bits - 1) if image.mode.startswith('I;16') else (None, None)
        return Raw(bands[:, :, None], low, high, pages=pages, name=name, nodata=nodata)
    if image.mode == 'F':
        return Raw(np.asarray(image)[:, :, None], None, None, pages=pages, name=name, nodata=nodata)
    has_alpha = image.mode in ('LA', 'RGBA', 'PA', 'La', 'RGBa') or 'transparency' in image.info
    gray = image.mode in ('1', 'L', 'LA', 'La')
    bands = np.array(image.convert({(True, True): 'LA', (True, False): 'L', (False, True): 'RGBA'}.get(
        (gray, has_alpha), 'RGB')))  # fmt: skip
    bands = bands[:, :, None] if bands.ndim == 2 else bands
    return Raw(bands, 0, 255, has_alpha, is_colour=not gray, pages=pages, name=name)


def is_deep_png(data: bytes) -> bool:
    """16 bits and more than gray, of which Pillow keeps 8."""
    return data.startswith(PNG) and data[24:25] == b'\x10' and data[25:26] != b'\x00'


def read_deep_png(data: bytes) -> Raw:
    """OpenCV's numbers, once Pillow has found nothing damaged: OpenCV shows what it has got."""
    image = load(data)
    raw = read_with_opencv(pixels_of_png(data))
    if data[25:26] == b'\x04':  # gray and alpha, which OpenCV spreads over four bands
        raw = raw._replace(bands=raw.bands[:, :, [0, 3]], has_alpha=True, is_colour=False)
    return raw._replace(bands=turn(raw.bands, orientation_of(image)))


def jpeg2000_sizes(data: bytes) -> tuple[int, int, list[int]] | None:
    """Width, height and the depth byte of each component, from the codestream's header; None if it has none."""
    start = 0 if data.startswith(CODESTREAM) else data.find(CODESTREAM) if data[4:8] == b'jP  ' else -1
    if start < 0 or len(data) < start + 42:
        return None
    x1, y1, x0, y0 = struct.unpack('>4I', data[start + 8 : start + 24])
    (count,) = struct.unpack('>H', data[start + 40 : start + 42])
    return x1 - x0, y1 - y0, list(data[start + 42 : start + 42 + 3 * count : 3])


def is_deep_jpeg2000(data: bytes) -> bool:
    """More than 8 bits, signed or more than four bands: Pillow wraps or drops them."""
    sizes = jpeg2000_sizes(data)
    return sizes is not None and (len(sizes[2]) > 4 or any(depth > 7 for depth in sizes[2]))


def read_deep_jpeg2000(data: bytes) -> Raw:
    """By imagecodecs; without it by OpenCV, which has up to four unsigned bands."""
    width, height, depths = jpeg2000_sizes(data)
    check_size(height, width, 2 * len(depths))
    signed, bits = depths[0] > 127, (depths[0] & 127) + 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    try:
        codecs = require_extra('imagecodecs', f'a JPEG 2000 of {len(depths)} bands needs', 'scientific')
    except ImportError:
        if signed or len(depths) > 4:
            raise
        return read_with_opencv(data)._replace(low=low, high=high)
    bands = codecs.jpeg2k_decode(data)
    bands = bands[:, :, None] if bands.ndim == 2 else bands
    return Raw(bands, low, high, has_alpha=len(depths) in (2, 4), is_colour=len(depths) in (3, 4))


PNM = re.compile(rb'P[56](?:\s+|#[^\n]*\n)+(\d+)(?:\s+|#[^\n]*\n)+(\d+)(?:\s+|#[^\n]*\n)+(\d+)\s')


def is_deep_pnm(data: bytes) -> bool:
    """More than 8 bits, which Pillow stretches or cuts."""
    found = PNM.match(data[:4096])
    return bool(found) and 255 < int(found[3]) < 65536


def read_deep_pnm(data: bytes) -> Raw:
    """Big-endian numbers behind a header of three.

    Raises:
        ValueError: It ends too early.
    """
    found = PNM.match(data[:4096])
    width, height, white = (int(number) for number in found.groups())
    count = 3 if data[1:2] == b'6' else 1
    check_size(height, width, 2 * count)
    end = found.end() + 2 * height * width * count
    if end > len(data):
        raise ValueError('a truncated PNM')
    bands = np.frombuffer(data[found.end() : end], '>u2').reshape(height, width, count).astype(np.uint16)
    return Raw(bands, 0, white, is_colour=count == 3)


def is_numpy(data: bytes) -> bool:
    """``.npy``, or ``.npz`` with nothing else in it."""
    return data.startswith(b'\x93NUMPY') or (data.startswith(b'PK\x03\x04') and b'.npy' in data[:300])


def read_numpy(data: bytes) -> Raw:
    """An array (H, W), (H, W, C) or (C, H, W); the channels are the shortest axis, in doubt the last.

    Raises:
        ValueError: Something else, or more than one array.
    """
    if data.startswith(b'PK'):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.infolist()
            if len(names) != 1:
                raise ValueError(f'an .npz of {len(names)} arrays: keep one per file')
            if names[0].file_size > MAX_BYTES:
                raise ValueError(f'an .npz of {names[0].file_size} bytes, more than the {MAX_BYTES} that it may have')
            with archive.open(names[0]) as file:
                _check_promise(file, names[0].file_size)
            data = archive.read(names[0])
    _check_promise(io.BytesIO(data), len(data))
    values = np.load(io.BytesIO(data), allow_pickle=False)
    if values.ndim not in (2, 3) or values.dtype.kind not in 'biuf' or not values.size:
        raise ValueError(f'an array of {values.dtype} {values.shape} is no image: (H, W), (H, W, C) or (C, H, W)')
    if values.ndim == 2:
        values = values[:, :, None]
    elif values.shape[0] < min(values.shape[1:]):
        values = values.transpose(1, 2, 0)
    check_size(*values.shape[:2])
    count = values.shape[2]
    return Raw(values, *fixed_range(values.dtype), is_colour=count == 3)


def _check_promise(file: IO[bytes], size: int) -> None:
    """Memory is taken by what the header says, before the numbers are read.

    Args:
        file: At its header.
        size: Its bytes.

    Raises:
        ValueError: It says more than the file holds.
        PIL.Image.DecompressionBombError: More than an image may have.
    """
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0}.get(version, np.lib.format.read_array_header_2_0)
    shape, _, dtype = read(file)
    if math.prod(shape) * dtype.itemsize > size and not dtype.hasobject:
        raise ValueError(f'a truncated array: {dtype} {shape} does not fit into {size} bytes')
    if len(shape) in (2, 3) and min(shape):
        height, width = sorted(shape)[-2:]  # the shortest axis are the channels
        check_size(height, width, math.prod(shape) // (height * width) * dtype.itemsize)


def is_heif(data: bytes) -> bool:
    """HEIC and its kin; AVIF is Pillow's."""
    return data[4:8] == b'ftyp' and data[8:12] in HEIF_BRANDS and b'avif' not in data[8:40]


def read_heif(data: bytes) -> Raw:
    """By pillow-heif, at the depth of the file."""
    heif = require_extra('pillow_heif', 'HEIC files need', 'heif')
    found = heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    check_size(found.size[1], found.size[0], 8)
    bands = np.asarray(found)
    bands = bands[:, :, None] if bands.ndim == 2 else bands
    count = bands.shape[2]
    return Raw(bands, *fixed_range(bands.dtype), count in (2, 4), count >= 3, pages=len(found))


def is_jpeg_xl(data: bytes) -> bool:
    """Its codestream, or its container."""
    return data.startswith((b'\xff\x0a', b'\0\0\0\x0cJXL \r\n\x87\n'))


JXL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # ISO/IEC 18181-1, SizeHeader


def jpeg_xl_size(data: bytes) -> tuple[int, int]:
    """Height and width, from the first bits of the codestream (ISO/IEC 18181-1, D.2)."""
    bits = int.from_bytes(_codestream(data)[2:16], 'little')

    def take(num: int) -> int:
        nonlocal bits
        value, bits = bits & (1 << num) - 1, bits >> num
        return value

    small = take(1)

    def side() -> int:
        return 8 * (1 + take(5)) if small else 1 + take((9, 13, 18, 30)[take(2)])

    height, ratio = side(), take(3)
    if not ratio:
        return height, side()
    across, down = JXL_RATIOS[ratio - 1]
    return height, height * across // down


def _codestream(data: bytes) -> bytes:
    """Its first bytes, bare or in the first box of a container that holds some."""
    at = 0
    while not data.startswith(b'\xff\x0a', at):
        length, kind = int.from_bytes(data[at : at + 4], 'big'), data[at + 4 : at + 8]
        start = at + 8
        if length == 1:
            length, start = int.from_bytes(data[start : start + 8], 'big'), start + 8
        if kind in (b'jxlc', b'jxlp'):
            return data[start + 4 * (kind == b'jxlp') :][:64]
        if length < 8 or at + length >= len(data):
            raise ValueError('a JPEG XL without an image')
        at += length
    return data[at : at + 64]


def read_jpeg_xl(data: bytes) -> Raw:
    """By imagecodecs; of an animation the first frame."""
    codecs = require_extra('imagecodecs', 'JPEG XL files need', 'scientific')
    check_size(*jpeg_xl_size(data), 16)
    bands = codecs.jpegxl_decode(data, index=0)
    bands = bands[:, :, None] if bands.ndim == 2 else bands
    count = bands.shape[2]
    return Raw(bands, *fixed_range(bands.dtype), count in (2, 4), count in (3, 4))


READERS = (
    Reader('a DICOM', dicom.is_dicom, dicom.read),
    Reader('a NumPy array', is_numpy, read_numpy),
    Reader('a HEIC', is_heif, read_heif),
    Reader('a JPEG XL', is_jpeg_xl, read_jpeg_xl),
    Reader('a JPEG 2000', is_deep_jpeg2000, read_deep_jpeg2000),
    Reader('a PNG', is_deep_png, read_deep_png),
    Reader('a PNM', is_deep_pnm, read_deep_pnm),
    Reader('a TIFF', tiff.is_scientific, tiff.read),
    Reader('an image', lambda data: True, read_with_pillow),
)
