"""TIFF of any kind: what Pillow reads well stays with it, the rest goes to tifffile."""

import io
import math
import re
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from mocox.datasets.extras import MissingExtraError, require_extra
from mocox.datasets.number_ranges import fixed_range
from mocox.datasets.opencv import read_with_opencv
from mocox.datasets.orientation import TAG, turn
from mocox.datasets.raw import Raw, check_size

if TYPE_CHECKING:
    import tifffile

SIGNATURES = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
KIND, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION, SAMPLES, PLANAR, FORMAT = 254, 258, 259, 262, 270, 277, 284, 339
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, SEPARATED, YCBCR = 0, 1, 2, 3, 5, 6
OLD_JPEG, JPEG, WEBP = 6, 7, 50001
# Whose numbers are neither gray nor red, green and blue.
OTHER_COLOURS = {
    YCBCR: 'YCbCr',
    8: 'CIELab',
    9: 'ICCLab',
    10: 'ITULab',
    32803: 'a colour filter array',
    32844: 'LogL',
    32845: 'LogLuv',
}
WIDTHS = (32, 64)  # of whole numbers of more than 16 bits
NODATA = 42113  # GDAL's: a number as text
UNSIGNED = 1
MAX_PILLOW = 4  # bands
MAX_PLANES = 1_000_000  # of an OME file
PIXELS = re.compile(r'<(?:\w+:)?Pixels\b[^>]*')
SIZE = re.compile(r'\bSize[CZT]\s*=\s*["\']([^"\']*)')
ALPHA = (1, 2)  # of ExtraSamples
REDUCED = 1 | 4  # of NewSubfileType: a smaller copy, a mask
SUB_IFDS = 330
CANON_RAW = b'II*\0\x10\0\0\0CR\x02'  # its preview stands where others have their image
CAMERA_RAW = 'a camera raw, of which this could only read the preview: develop it to TIFF or JPEG'
NEED = 'a TIFF of this kind needs'


def is_scientific(data: bytes) -> bool:
    """A TIFF that is more than 8 bits of gray or colour, or 16 bits of gray, which is what Pillow reads right."""
    if data[:4] not in SIGNATURES:
        return False
    image = _open(data)
    if image is None:  # Pillow is not the one to judge
        return True
    tags = image.tag_v2
    bits, count = bits_of(image), tags.get(SAMPLES, 1)
    description = str(tags.get(DESCRIPTION, ''))
    if image.is_animated and (description.startswith('ImageJ=') or '<OME' in description):
        return True  # their channels are pages
    if any(kind != UNSIGNED for kind in np.atleast_1d(tags.get(FORMAT, UNSIGNED))):
        return True
    if data.startswith(CANON_RAW) or (tags.get(KIND, 0) & REDUCED and (image.is_animated or SUB_IFDS in tags)):
        return True  # the image comes behind its thumbnail
    if tags.get(COMPRESSION) == WEBP:
        return True  # Pillow's wheels have none in TIFF
    if max(bits) <= 8:
        return len(image.getbands()) != count
    return not (count == 1 and image.mode.startswith('I;16') and tags.get(PHOTOMETRIC) == BLACK_IS_ZERO)


def _open(data: bytes) -> TiffImageFile | None:
    """With Pillow, if it can; without the errors that it logs for each of many bands."""
    try:
        if _tags(data).get(SAMPLES, 1) > MAX_PILLOW:
            return None
        image = Image.open(io.BytesIO(data), formats=['TIFF'])
    except Exception:  # Pillow raises anything
        return None
    return image if isinstance(image, TiffImageFile) else None


def _tags(data: bytes) -> ImageFileDirectory_v2:
    """Tags of the first image; nothing is decoded."""
    file = io.BytesIO(data)
    tags = ImageFileDirectory_v2(file.read(16 if data[2:3] + data[3:4] in (b'+\0', b'\0+') else 8))
    file.seek(tags.next)
    tags.load(file)
    return tags


def bits_of(image: Image.Image) -> tuple[int, ...]:
    """Bits per sample of each band of a TIFF; of another format those of its mode."""
    bits = getattr(image, 'tag_v2', {}).get(BITS)
    if bits is None:
        return (1,) if hasattr(image, 'tag_v2') else (16,)
    return tuple(int(value) for value in np.atleast_1d(bits))


def read(data: bytes) -> Raw:
    """The first image of a file, with all its bands.

    Raises:
        MissingExtraError: It needs tifffile or imagecodecs.
        ValueError: It is damaged, or of a kind that tifffile does not read.
    """
    if data.startswith(CANON_RAW):
        raise ValueError(CAMERA_RAW)
    try:
        library = require_extra('tifffile', NEED, 'scientific')
    except MissingExtraError:
        if not _is_deep_rgb(data):
            raise
        return read_with_opencv(data)
    try:
        with library.TiffFile(io.BytesIO(data)) as file:
            return _read_series(file)
    except ValueError as error:
        if 'imagecodecs' in str(error):
            raise MissingExtraError(f'{NEED} imagecodecs: pip install "mocox[scientific]"') from error
        raise


def _is_deep_rgb(data: bytes) -> bool:
    """16 bits of colour, band beside band, which OpenCV reads right."""
    image = _open(data)
    if image is None:
        return False
    tags = image.tag_v2
    plain = tags.get(PHOTOMETRIC) == RGB and tags.get(PLANAR, 1) == 1 and tags.get(TAG, 1) == 1
    return plain and set(bits_of(image)) == {16} and tags.get(SAMPLES) in (3, 4)


def _read_series(file: 'tifffile.TiffFile') -> Raw:
    if file.is_ome:
        _check_planes(file.ome_metadata or '')
    series = next((series for series in file.series if not series.keyframe.subfiletype & REDUCED), file.series[0])
    page = series.keyframe
    if page.subfiletype & REDUCED and page.subifds:
        raise ValueError(CAMERA_RAW)
    _check_bytes(series)
    bits = page.bitspersample if isinstance(page.bitspersample, int) else 0
    _check_kind(page, bits)
    bands, num_planes = _bands(series)
    low, high = fixed_range(bands.dtype)
    if page.sampleformat == UNSIGNED and 0 < bits < 8 * bands.dtype.itemsize:
        low, high = 0, 2**bits - 1
    extra = page.extrasamples
    orientation = page.tags[TAG].value if TAG in page.tags else 1
    palette = page.colormap if page.photometric == PALETTE and bits > 8 and bands.shape[2] == 1 else None
    if palette is not None:
        bands, low, high = palette[:, bands[:, :, 0]].transpose(1, 2, 0), 0, 65535
    full_ink = high if page.photometric == SEPARATED and bands.shape[2] >= 4 and low == 0 else None
    if full_ink is not None:
        bands = np.concatenate([_from_cmyk(bands[:, :, :4], float(full_ink)), bands[:, :, 4:]], axis=2)
    is_inverted = page.photometric == WHITE_IS_ZERO
    if is_inverted and bands.shape[2] > 1 and low is not None and high is not None:  # the first band alone
        bands = np.concatenate([(low + high - bands[:, :, :1]).astype(bands.dtype), bands[:, :, 1:]], axis=2)
        is_inverted = False
    whole = sum(not getattr(other, 'subfiletype', 0) & REDUCED for other in file.pages)
    return Raw(
        turn(bands, orientation if orientation in range(1, 9) else 1),
        low,
        high,
        has_alpha=bool(extra) and extra[-1] in ALPHA,
        is_colour=page.photometric in (RGB, YCBCR) or full_ink is not None or palette is not None,
        is_inverted=is_inverted,
        pages=max(whole // num_planes, 1),
        nodata=nodata_of(page.tags[NODATA].value if NODATA in page.tags else None),
    )


def _check_kind(page: 'tifffile.TiffPage', bits: int) -> None:
    """Refuse numbers that mean neither gray nor colour, and those that tifffile takes for others."""
    photometric = page.photometric
    if photometric in OTHER_COLOURS and not (photometric == YCBCR and page.compression in (OLD_JPEG, JPEG)):
        kind = OTHER_COLOURS[photometric]
        raise ValueError(f'a TIFF of {kind} of {bits} bits: convert it to red, green and blue, or to gray')
    if bits > 16 and bits not in WIDTHS:
        raise ValueError(f'a TIFF of {bits} bits per sample: convert it to {" or ".join(map(str, WIDTHS))} bits')


def _check_planes(description: str) -> None:
    """Limit the planes of an OME file: tifffile lists all that its XML claims, present or not."""
    planes = 0
    for pixels in PIXELS.findall(description):
        planes += math.prod(int(size) for size in SIZE.findall(pixels))
    if planes > MAX_PLANES:
        raise ValueError(
            f'an OME-TIFF of {planes} planes, more than the {MAX_PLANES} that are read: write smaller files'
        )


def _check_bytes(series: 'tifffile.TiffPageSeries') -> None:
    """Limit the bytes of one plane of all channels: tifffile allocates them before it reads."""
    page = series.keyframe
    shape, axes = series.shape, series.axes
    num_planes = shape[axes.index('C')] if 'C' in axes[: len(axes) - len(page.axes)] else 1
    depth = page.imagedepth * page.samplesperpixel * num_planes * max(page.dtype.itemsize if page.dtype else 1, 1)
    check_size(page.imagelength, page.imagewidth, depth)


def nodata_of(text: object) -> float | None:
    """The number that stands for a missing value, of the tag that GDAL writes; None without one, or where it is NaN."""
    try:
        value = float(str(text).strip(' \0'))
    except ValueError:
        return None
    return None if math.isnan(value) else value


def _from_cmyk(inks: np.ndarray, full: float) -> np.ndarray:
    """RGB of what is printed, without a profile, as Pillow does it: what no ink of a kind and no black leaves."""
    left = 1 - inks / full
    return np.rint(full * left[:, :, :3] * left[:, :, 3:]).astype(inks.dtype)


def _bands(series: 'tifffile.TiffPageSeries') -> tuple[np.ndarray, int]:
    """(H, W, C) of the first time, slice, position ..., and in how many pages of the file it lies."""
    axes, shape = series.axes, series.shape
    planes = series.keyframe.axes  # of a page: YX, YXS, SYX
    leading = axes[: len(axes) - len(planes)]
    if 'C' not in leading:
        return _channels_last(series.keyframe.asarray(), planes), 1
    at = leading.index('C')
    step = math.prod(shape[at + 1 : len(leading)])
    if len(series.pages) > (shape[at] - 1) * step:
        pages = [page for i in range(shape[at]) if (page := series.pages[i * step]) is not None]
        if len(pages) < shape[at]:
            missing = shape[at] - len(pages)
            raise ValueError(f'{missing} of the {shape[at]} channels are in other files: write an OME-TIFF of them all')
        arrays = [_channels_last(page.asarray(), planes) for page in pages]
        return np.concatenate(arrays, axis=2), shape[at]
    return _channels_last(series.asarray(), axes), 1


def _channels_last(values: np.ndarray, axes: str) -> np.ndarray:
    for axis in [axis for axis in axes if axis not in 'YXSC']:  # time, depth, ...: the first
        values = np.take(values, 0, axes.index(axis))
        axes = axes.replace(axis, '', 1)
    rest = [i for i, axis in enumerate(axes) if axis in 'SC']
    values = values.transpose(axes.index('Y'), axes.index('X'), *rest)
    return values.reshape(*values.shape[:2], -1)
