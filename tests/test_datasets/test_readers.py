"""Every kind of file against the array that it was made from, by tifffile, imagecodecs, OpenCV or byte by byte."""

import io
import itertools
import struct
import sys
import zlib
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image, ImageOps

from mocox.datasets import Pixels, decode
from mocox.datasets.readers import PNG, read_raw

FILES = Path(__file__).parents[1] / 'data' / 'images'
GRAY, COLOUR = (np.array(Image.open(FILES / f'truth_{name}.png')) for name in ('gray', 'rgb'))
ANY = 'photometric', 'minisblack'


def tiff(values: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def numbers(dtype: str, bands: int, bits: int | None = None) -> np.ndarray:
    """(48, 64, bands) over the whole range of a type, or of so many bits."""
    rng = np.random.default_rng(bands)
    if np.dtype(dtype).kind == 'f':
        return rng.normal(100, 300, (48, 64, bands)).astype(dtype)
    low, high = (0, 2**bits) if bits else (np.iinfo(dtype).min, int(np.iinfo(dtype).max) + 1)
    return rng.integers(low, high, (48, 64, bands), dtype=dtype)


@pytest.mark.parametrize(
    ('name', 'truth', 'tolerance', 'pixels'),
    [
        ('tiff_12bit.tif', GRAY, 2, {}),
        ('png_gray16_12bit.png', GRAY, 2, dict(value_range=(0, 4095), depth=8)),
        ('tiff_rgb16_planar.tif', COLOUR, 2, {}),
        ('jp2_rgb16.jp2', COLOUR, 2, {}),
        ('jpg_exif6_long_MM.jpg', COLOUR, 45, {}),
        ('png_badcrc_text.png', COLOUR, 2, {}),
        ('png_badexif_noheader.png', COLOUR, 2, {}),
        ('png_bigzTXt.png', COLOUR, 2, {}),
        ('avif.avif', COLOUR, 45, {}),
    ],
)
def test_files_from_the_field(name, truth, tolerance, pixels):
    found = decode((FILES / name).read_bytes(), pixels=Pixels(**pixels))
    truth = truth if truth.ndim == 3 else truth[:, :, None].repeat(3, 2)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - truth).max() <= tolerance


def test_thirteen_bands():
    data = (FILES / 'tiff_13band16.tif').read_bytes()
    truth = tifffile.imread(io.BytesIO(data))
    assert truth.shape == (48, 64, 13)
    np.testing.assert_array_equal(decode(data, pixels=Pixels(channels=13, value_range='dtype', depth=16)), truth)
    with pytest.raises(ValueError, match=r'a TIFF of 13 bands: set channels=13'):
        decode(data)
    some = decode(data, pixels=Pixels(channels=[3, 12], value_range='dtype', depth=16))
    np.testing.assert_array_equal(some, truth[:, :, [3, 12]])
    with pytest.raises(ValueError, match=r'13 bands, counted from 0: channels=\[13\]'):
        decode(data, pixels=Pixels(channels=[13]))


TIFFS = [
    (dtype, bands, planar, layout)
    for dtype, bands, planar, layout in itertools.product(
        ('u1', 'u2', 'i1', 'i2', 'u4', 'i4', 'f2', 'f4', 'f8'),
        (1, 2, 3, 4, 5, 13),
        ('contig', 'separate'),
        ('strips', 'tiles', 'deflate', 'big-endian', 'lzw'),
    )
    if bands > 1 or planar == 'contig'
]
LAYOUTS = {
    'strips': dict(rowsperstrip=7),
    'tiles': dict(tile=(16, 32)),
    'deflate': dict(compression='deflate'),
    'big-endian': dict(byteorder='>'),
    'lzw': dict(compression='lzw', predictor=False),
}


@pytest.mark.parametrize('photometric', ['minisblack', 'rgb'])
@pytest.mark.parametrize('dtype', ['u1', 'u2', 'i1', 'i2', 'u4', 'i4', 'f2', 'f4', 'f8'])
def test_tiffs_of_every_type_keep_their_numbers(dtype, photometric):
    for bands, planar, layout in itertools.product((1, 2, 3, 4, 5, 13), ('contig', 'separate'), LAYOUTS):
        if (bands == 1 and planar == 'separate') or (photometric == 'rgb' and bands < 3):
            continue
        truth = numbers(dtype, bands)
        values = truth if planar == 'contig' else np.ascontiguousarray(truth.transpose(2, 0, 1))
        data = tiff(
            values[:, :, 0] if bands == 1 else values,
            photometric=photometric,
            planarconfig=planar if bands > 1 else None,
            **LAYOUTS[layout],
        )
        raw = read_raw(data)
        np.testing.assert_array_equal(raw.bands, truth, err_msg=f'{bands} {planar} {layout}')
        wide = np.dtype(dtype).itemsize > 2 or dtype == 'f2'
        assert (raw.low, raw.high) == ((None, None) if wide else (np.iinfo(dtype).min, np.iinfo(dtype).max))


@pytest.mark.parametrize('bits', [1, 2, 4, 8, 10, 12, 14, 16])
@pytest.mark.parametrize('white_is_zero', [False, True])
def test_bits_per_sample_are_the_range(bits, white_is_zero):
    """Written by hand: nothing but rows of packed bits and the tags that are needed."""
    truth = numbers('u2', 1, bits)[:, :, 0]
    data = packed_tiff(truth, bits, photometric=0 if white_is_zero else 1)
    expected = np.rint(truth * (255 / (2**bits - 1)))
    np.testing.assert_array_equal(decode(data)[:, :, 1], 255 - expected if white_is_zero else expected)


def packed_tiff(values: np.ndarray, bits: int, photometric: int) -> bytes:
    height, width = values.shape
    rows = ((values[:, :, None] >> np.arange(bits)[::-1]) & 1).reshape(height, width * bits)
    strip = np.packbits(rows, axis=1).tobytes() if bits != 16 else values.astype('>u2').tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(strip)}
    entries = b''.join(struct.pack('>HHII', tag, 4, 1, value) for tag, value in tags.items())
    offset = 8 + len(strip) + len(strip) % 2
    directory = struct.pack('>H', len(tags)) + entries + bytes(4)
    return b'MM\0*' + struct.pack('>I', offset) + strip.ljust(offset - 8, b'\0') + directory


def test_alpha_is_no_band_but_infrared_is():
    values = numbers('u2', 4)
    infrared = tiff(values, photometric='rgb', extrasamples=['unspecified'])
    transparent = tiff(values, photometric='rgb', extrasamples=['unassalpha'])
    deep = dict(value_range='dtype', depth=16)
    for data in (infrared, transparent):
        np.testing.assert_array_equal(decode(data, pixels=Pixels(**deep)), values[:, :, :3])
        np.testing.assert_array_equal(decode(data, pixels=Pixels(channels=4, **deep)), values)
    np.testing.assert_array_equal(decode(transparent, pixels=Pixels(channels=3, **deep)), values[:, :, :3])
    with pytest.raises(ValueError, match='a TIFF of 4 bands: set channels=4'):
        decode(tiff(values, photometric='minisblack', planarconfig='contig'))


@pytest.mark.parametrize('orientation', range(1, 9))
def test_a_deep_tiff_is_turned(orientation):
    values = (COLOUR[:, :, 0].astype(np.uint16) * 257)[:, :, None] + np.zeros(5, np.uint16)
    data = tiff(values, photometric='minisblack', planarconfig='contig', extratags=[(274, 'H', 1, orientation, True)])
    expected = turned_by_pillow(COLOUR, orientation)[:, :, :1]
    np.testing.assert_array_equal(decode(data, pixels=Pixels(channels=[4])), expected)


def turned_by_pillow(pixels: np.ndarray, orientation: int) -> np.ndarray:
    image = Image.fromarray(pixels)
    image.getexif()[274] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def test_stacks_take_the_first_of_everything_but_channels():
    values = numbers('u2', 30).transpose(2, 0, 1).reshape(5, 2, 3, 48, 64)  # time, depth, channel
    for axes in ('TZCYX', 'TCZYX'):
        stack = values if axes == 'TZCYX' else values.swapaxes(1, 2)
        data = tiff(stack, ome=True, metadata=dict(axes=axes), photometric='minisblack')
        raw = read_raw(data)
        np.testing.assert_array_equal(raw.bands, values[0, 0].transpose(1, 2, 0))
        assert raw.pages == 10
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values.transpose(0, 1, 2, 3, 4), imagej=True, metadata=dict(axes='TZCYX'))
    np.testing.assert_array_equal(read_raw(buffer.getvalue()).bands, values[0, 0].transpose(1, 2, 0))
    pages = tiff(values[:, 0, 0], photometric='minisblack')
    assert read_raw(pages).pages == 5
    np.testing.assert_array_equal(read_raw(pages).bands[:, :, 0], values[0, 0, 0])


def test_overviews_are_no_pages():
    """As a cloud-optimised GeoTIFF has them."""
    buffer, values = io.BytesIO(), numbers('u2', 2)
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(values, planarconfig='contig', photometric='minisblack')
        writer.write(values[::2, ::2], planarconfig='contig', photometric='minisblack', subfiletype=1)
    assert read_raw(buffer.getvalue()).pages == 1


@pytest.mark.parametrize('signed', [False, True])
@pytest.mark.parametrize('bits', [9, 12, 16])
@pytest.mark.parametrize('bands', [1, 3, 4, 5])
def test_deep_jpeg_2000(bits, bands, signed):
    truth = numbers('u2', bands, bits).astype(np.int32) - (2 ** (bits - 1) if signed else 0)
    truth = truth.astype('i2' if signed else 'u2')
    data = imagecodecs.jpeg2k_encode(
        truth if bands > 1 else truth[:, :, 0], level=0, bitspersample=bits, reversible=True, mct=False
    )
    raw = read_raw(data)
    np.testing.assert_array_equal(raw.bands, truth)
    half = 2 ** (bits - 1)
    assert (raw.low, raw.high) == ((-half, half - 1) if signed else (0, 2 * half - 1))


@pytest.mark.parametrize('bands', [2, 3, 4])
def test_deep_png_keeps_16_bits(bands):
    truth = numbers('u2', bands)
    data = imagecodecs.png_encode(truth)
    np.testing.assert_array_equal(read_raw(data).bands, truth)
    with pytest.raises((OSError, ValueError, SyntaxError)):
        decode(data[: len(data) // 2])


def test_deep_pnm():
    values = numbers('u2', 3, 12)
    data = b'P6\n# 12 bits\n64 48\n4095\n' + values.astype('>u2').tobytes()
    raw = read_raw(data)
    np.testing.assert_array_equal(raw.bands, values)
    assert (raw.low, raw.high) == (0, 4095)
    gray = b'P5 64 48 4095 ' + values[:, :, 0].astype('>u2').tobytes()
    np.testing.assert_array_equal(decode(gray)[:, :, 2], np.rint(values[:, :, 0] * (255 / 4095)))
    with pytest.raises(ValueError, match='truncated'):
        decode(gray[:-1])


def test_jpeg_xl_and_heic():
    values = numbers('u2', 3)
    np.testing.assert_array_equal(read_raw(imagecodecs.jpegxl_encode(values, lossless=True)).bands, values)
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(COLOUR)).save(buffer, quality=95)
    assert np.abs(decode(buffer.getvalue()).astype(int) - COLOUR).max() <= 45
    bands = read_raw(buffer.getvalue()).bands
    assert isinstance(bands if bands.base is None else bands.base, np.ndarray)  # not memory of the decoder's


def test_numpy_files():
    values = numbers('f4', 5)
    for stored in (values, values.transpose(2, 0, 1)):
        for save in (np.save, lambda buffer, array: np.savez_compressed(buffer, image=array)):
            buffer = io.BytesIO()
            save(buffer, stored)
            np.testing.assert_array_equal(read_raw(buffer.getvalue()).bands, values)
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match='allow_pickle=False'):
        decode(buffer.getvalue())
    buffer = io.BytesIO()
    np.savez(buffer, a=values, b=values)
    with pytest.raises(ValueError, match='2 arrays: keep one per file'):
        decode(buffer.getvalue())


@pytest.mark.parametrize('dtype', ['u1', 'u2'])
def test_a_png_with_a_flipped_bit_in_its_pixels_is_refused(dtype):
    """As by libpng; Pillow makes another picture of it and says nothing."""
    rng = np.random.default_rng(0)
    values = cv2.resize(rng.integers(0, 200, (8, 8, 3)).astype(dtype), (64, 64))
    data = cv2.imencode('.png', values)[1].tobytes()
    assert decode(data).shape == (64, 64, 3)
    first, last = data.index(b'IDAT') + 4, data.index(b'IEND') - 8
    for at in np.linspace(first, last - 1, 20).astype(int):
        damaged = bytearray(data)
        damaged[at] ^= 4
        with pytest.raises(ValueError, match='a damaged PNG'):
            decode(bytes(damaged))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))


def printed(inks: np.ndarray) -> np.ndarray:
    """Light that (..., 4) inks from 0 to 1 leave, without a profile: each ink takes away its part, black of all."""
    return (1 - inks[..., :3]) * (1 - inks[..., 3:])


def test_cmyk_and_ycck():
    """JPEGs by imagecodecs and Pillow, inverted as Adobe's are, which OpenCV reads as well; TIFFs by tifffile."""
    inks = np.random.default_rng(0).integers(0, 256, (3, 4, 4), np.uint8).repeat(32, 0).repeat(32, 1)
    expected = 255 * printed(inks / 255)
    inner = np.zeros((96, 128), bool)  # away from the edges of the patches, around which YCCK has half the resolution
    inner.reshape(3, 32, 4, 32)[:, 8:24, :, 8:24] = True
    buffer = io.BytesIO()
    Image.fromarray(inks, 'CMYK').save(buffer, 'JPEG', quality=100, subsampling=0)
    options = dict(level=100, colorspace='CMYK')
    jpegs = [buffer.getvalue()]
    jpegs += [imagecodecs.jpeg_encode(255 - inks, outcolorspace=kind, **options) for kind in ('CMYK', 'YCCK')]
    for data in jpegs:
        opencv = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        for found in (decode(data), decode(data, pixels=Pixels(depth=16)) / 257):
            assert np.abs(found - expected)[inner].max() <= 4
            assert np.abs(found - opencv.astype(float)).max() <= 3
    for dtype, planar in itertools.product(('u1', 'u2'), ('contig', 'separate')):
        values = inks.astype(dtype) * (257 if dtype == 'u2' else 1)
        values = values if planar == 'contig' else values.transpose(2, 0, 1)
        data = tiff(values, photometric='separated', planarconfig=planar, compression='deflate')
        assert np.abs(decode(data) - expected).max() <= 1, (dtype, planar)
        if dtype == 'u2':
            assert np.abs(decode(data, pixels=Pixels(depth=16)) - 257 * expected).max() <= 1
    with_alpha = np.dstack([inks, inks[:, :, :1]])
    data = tiff(with_alpha, photometric='separated', planarconfig='contig', extrasamples=['unassalpha'])
    assert np.abs(decode(data) - expected).max() <= 1


def test_damage_outside_of_the_pixels_of_a_png():
    """Texts, profiles and EXIF of every kind of damage, before and behind the pixels."""
    data = cv2.imencode('.png', COLOUR[:, :, ::-1])[1].tobytes()
    header, rest = data[:33], data[33:]
    huge = zlib.compress(bytes(20_000_000))
    remarks = [
        chunk(b'zTXt', b'note\0\0' + huge),
        chunk(b'iCCP', b'profile\0\0' + huge),
        chunk(b'iCCP', b'profile\0\0' + b'no zlib'),
        chunk(b'iTXt', b'note\0\1\0\0\0' + huge),
        chunk(b'tEXt', b'note\0text')[:-4] + b'oops',
        chunk(b'eXIf', b'no EXIF'),
        chunk(b'tIME', b''),
        chunk(b'pHYs', b'\0'),
    ]
    for remark in remarks:
        for damaged in (header + remark + rest, data[:-12] + remark + data[-12:]):
            np.testing.assert_array_equal(decode(damaged), COLOUR, err_msg=repr(remark[:20]))
    at = data.index(b'IDAT') + 40
    with pytest.raises((OSError, ValueError, SyntaxError)):
        decode(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])
    assert data.startswith(PNG)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', [1, 3, 4, 8, 9])  # BYTE, SHORT, LONG, SSHORT, SLONG
@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('decoder', ['simplejpeg', 'cv2'])
def test_orientation_of_every_type(orientation, kind, order, decoder, monkeypatch):
    if decoder == 'cv2':
        monkeypatch.setitem(decode.__globals__, 'simplejpeg', None)
    value = struct.pack(order + {1: 'B', 3: 'H', 4: 'I', 8: 'h', 9: 'i'}[kind], orientation).ljust(4, b'\0')
    exif = {'<': b'II*\0', '>': b'MM\0*'}[order] + struct.pack(order + 'IHHHI', 8, 1, 274, kind, 1) + value + bytes(4)
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).save(buffer, 'JPEG', quality=90, exif=b'Exif\0\0' + exif)
    image = Image.open(io.BytesIO(buffer.getvalue()))
    np.testing.assert_array_equal(decode(buffer.getvalue()), np.asarray(ImageOps.exif_transpose(image)))


def test_orientation_in_xmp():
    buffer = io.BytesIO()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    Image.fromarray(COLOUR).save(buffer, 'JPEG', quality=90, xmp=xmp)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(buffer.getvalue())))
    assert expected.size == (48, 64)
    np.testing.assert_array_equal(decode(buffer.getvalue()), np.asarray(expected))


def test_exif_that_is_none_in_every_format():
    for kind in ('JPEG', 'PNG', 'WEBP'):
        buffer = io.BytesIO()
        Image.fromarray(COLOUR).save(buffer, kind, exif=b'Exif\0\0no EXIF at all')
        expected = np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert('RGB'))
        np.testing.assert_array_equal(decode(buffer.getvalue()), expected)


@pytest.mark.parametrize('missing', ['tifffile', 'imagecodecs', 'pillow_heif'])
def test_a_missing_extra_is_named(missing, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, missing, None)
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(COLOUR)).save(buffer)
    data = {
        'tifffile': tiff(numbers('f4', 5)),
        'imagecodecs': imagecodecs.jpegxl_encode(COLOUR),
        'pillow_heif': buffer.getvalue(),
    }[missing]
    extra = 'heif' if missing == 'pillow_heif' else 'scientific'
    with pytest.raises(ImportError, match=rf'{missing}, which is not installed: pip install "mocox\[{extra}\]"'):
        decode(data)


def test_what_is_right_without_extras(monkeypatch):
    """16 bits of gray or colour as everybody writes them, JPEG 2000 of up to four bands."""
    files = []  # written while the writers are there
    for bands in (1, 3, 4):
        values = numbers('u2', bands)
        squeezed = values[:, :, 0] if bands == 1 else values
        photometric = 'minisblack' if bands == 1 else 'rgb'
        files.append((tiff(squeezed, photometric=photometric, compression='deflate'), values))
        files.append((imagecodecs.jpeg2k_encode(squeezed, level=0, reversible=True, mct=False), values))
    monkeypatch.setitem(sys.modules, 'tifffile', None)
    monkeypatch.setitem(sys.modules, 'imagecodecs', None)
    for data, values in files:
        np.testing.assert_array_equal(read_raw(data).bands, values)


def test_the_limit_on_pixels_holds_for_every_reader(monkeypatch):
    values = numbers('u2', 5)
    npy = io.BytesIO()
    np.save(npy, values)
    files = [
        tiff(values, photometric='minisblack', planarconfig='contig'),
        npy.getvalue(),
        imagecodecs.jpeg2k_encode(values, level=0),
        imagecodecs.png_encode(np.ascontiguousarray(values[:, :, :3])),
        imagecodecs.jpegxl_encode(np.ascontiguousarray(values[:, :, :3]), lossless=True),
        b'P5 64 48 4095 ' + bytes(2 * 48 * 64),
    ]
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 48 * 64 // 3)
    for data in files:
        with pytest.raises(Image.DecompressionBombError):
            decode(data)
