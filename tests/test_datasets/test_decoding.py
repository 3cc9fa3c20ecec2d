"""Every mode and format, as Pillow decodes it."""

import io
import itertools
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

from mocox.datasets import decode


@pytest.fixture(scope='module')
def photo() -> Image.Image:
    return Image.fromarray(load_sample_image('china.jpg')).crop((200, 100, 293, 171))  # odd sides: chroma has an edge


def encode(image: Image.Image, file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def with_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = value
    return exif


@pytest.fixture(params=['simplejpeg', 'cv2'])
def decoder(request, monkeypatch) -> str:
    """Each of the fast decoders, the first where it is installed."""
    if request.param == 'simplejpeg':
        pytest.importorskip('simplejpeg')
        monkeypatch.setattr('cv2.imdecode', None)
    else:
        monkeypatch.setitem(decode.__globals__, 'simplejpeg', None)
    return request.param


@pytest.mark.parametrize('mode', ['RGB', 'L', 'CMYK'])
@pytest.mark.parametrize('options', [{}, {'quality': 90, 'subsampling': 0}, {'progressive': True}])
def test_jpeg_equals_pillow(photo, decoder, mode, options):
    data = encode(photo.convert(mode), 'JPEG', **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))
    np.testing.assert_array_equal(decode(data), expected)


def test_whole_photographs_equal_pillow(decoder):
    """Every chroma subsampling, at full size."""
    for name in ('china.jpg', 'flower.jpg'):
        for subsampling in (0, 1, 2):
            data = encode(Image.fromarray(load_sample_image(name)), 'JPEG', quality=90, subsampling=subsampling)
            np.testing.assert_array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data))))


def test_an_old_opencv_swaps_the_channels_afterwards(photo, monkeypatch):
    """Before 4.11 it only gives BGR."""
    monkeypatch.setitem(decode.__globals__, 'simplejpeg', None)
    monkeypatch.delattr('cv2.IMREAD_COLOR_RGB', raising=False)
    data = encode(photo, 'JPEG')
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize('factor', [2, 4, 8])
def test_jpegs_are_shrunk_where_that_is_allowed(factor):
    """To the mean of every square of pixels, about; the other formats keep their size."""
    image = Image.fromarray(load_sample_image('china.jpg')).crop((0, 0, 632, 424))
    sizes = []

    def reduction(height: int, width: int) -> int:
        sizes.append((height, width))
        return factor

    decoded = decode(encode(image, 'JPEG', quality=95, subsampling=0), reduction)
    expected = np.asarray(image).reshape(424 // factor, factor, 632 // factor, factor, 3).mean((1, 3))
    assert decoded.shape == expected.shape
    assert np.abs(decoded - expected).mean() < 2.5
    assert decode(encode(image, 'PNG'), reduction).shape == (424, 632, 3)
    assert sizes == [(424, 632)]


MODES = ('RGB', 'RGBA', 'L', 'LA', 'P', '1')
LOSSLESS = [
    *itertools.product(('PNG', 'TIFF', 'WEBP', 'GIF'), MODES),
    *itertools.product(('BMP',), set(MODES) - {'LA'}),
    *itertools.product(('PPM',), set(MODES) - {'LA', 'P'}),
]


@pytest.mark.parametrize(('file_format', 'mode'), sorted(LOSSLESS))
def test_lossless_modes_equal_pillow(photo, file_format, mode):
    data = encode(photo.convert(mode), file_format, **({'lossless': True} if file_format == 'WEBP' else {}))
    image = decode(data)
    np.testing.assert_array_equal(image, np.asarray(Image.open(io.BytesIO(data)).convert('RGB')))
    assert image.dtype == np.uint8
    assert image.shape == (71, 93, 3)


def test_alpha_is_dropped():
    image = Image.new('RGBA', (4, 3), (200, 100, 50, 0))
    assert np.unique(decode(encode(image, 'PNG')).reshape(-1, 3), axis=0).tolist() == [[200, 100, 50]]


def test_palette_with_transparency_keeps_its_colours(recwarn):
    image = Image.new('P', (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    data = encode(image, 'PNG', transparency=b'\x80\x00')
    assert decode(data).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert not recwarn.list


@pytest.mark.parametrize('file_format', ['PNG', 'TIFF'])
def test_16_bit_is_scaled_not_clipped(file_format):
    levels = np.array([[0, 256, 257, 32768, 65534, 65535]], np.uint16)
    image = decode(encode(Image.fromarray(levels), file_format))
    assert image[0, :, 0].tolist() == [0, 1, 1, 128, 255, 255]  # round(level / 257)
    assert (image == image[..., :1]).all()


def test_images_without_a_fixed_range_are_refused():
    for array in (np.ones((2, 2), np.float32), np.full((2, 2), 70000, np.int32)):
        with pytest.raises(ValueError, match='convert it to 8 or 16 bits'):
            decode(encode(Image.fromarray(array), 'TIFF'))


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('file_format', ['JPEG', 'PNG', 'WEBP'])
def test_exif_orientation_is_applied(photo, orientation, file_format):
    data = encode(photo, file_format, exif=with_orientation(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert expected.shape[:2] == ((71, 93) if orientation <= 4 else (93, 71))
    np.testing.assert_array_equal(decode(data), expected)


@pytest.mark.parametrize('file_format', ['JPEG', 'PNG', 'WEBP'])
@pytest.mark.parametrize('kept', [0.0, 0.01, 0.5, 0.9])
def test_truncated_files_are_refused(photo, file_format, kept):
    data = encode(photo, file_format)
    with pytest.raises((OSError, SyntaxError, ValueError, struct.error)):
        decode(data[: int(len(data) * kept)])


def test_truncated_jpeg_is_refused_with_an_opencv_that_fills_it_up(photo, monkeypatch):
    """As OpenCV 4 does."""
    monkeypatch.setitem(decode.__globals__, 'simplejpeg', None)
    monkeypatch.delattr('cv2.IMREAD_COLOR_RGB', raising=False)
    monkeypatch.setattr('cv2.imdecode', lambda data, flags: np.full((71, 93, 3), 128, np.uint8))
    data = encode(photo, 'JPEG')
    assert (decode(data) == 128).all()  # the fast path
    for lost in (1, 2, 500):
        with pytest.raises(OSError, match='truncated'):
            decode(data[:-lost])


def test_jpeg_with_something_behind_it_is_whole(photo):
    data = encode(photo, 'JPEG')
    for tail in (b'\0' * 20, b'garbage', b'garbage' * 100):
        np.testing.assert_array_equal(decode(data + tail), decode(data))


def test_decompression_bombs_are_refused(photo, monkeypatch):
    data = encode(photo, 'JPEG')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 71 * 93 // 3)
    with pytest.raises(Image.DecompressionBombError):
        decode(data)


def test_text_is_no_image():
    with pytest.raises(ValueError, match='not an image'):
        decode(b'<!DOCTYPE html>')
    with pytest.raises(ValueError, match='empty'):
        decode(b'')


@pytest.mark.parametrize('file_format', ['PNG', 'TIFF', 'GIF', 'WEBP', 'JPEG2000', 'BMP', 'PPM', 'TGA', 'AVIF'])
def test_the_limit_on_pixels_holds_for_every_format(photo, monkeypatch, file_format):
    data = encode(photo, file_format)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 71 * 93 // 3)
    with pytest.raises(Image.DecompressionBombError):
        decode(data)


def test_postscript_is_no_image(photo):
    """Pillow hands it to Ghostscript, an interpreter."""
    with pytest.raises(ValueError, match='not an image'):
        decode(encode(photo, 'EPS'))
