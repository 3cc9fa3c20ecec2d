"""The image loader: bytes of every format, mutated."""

import io
import warnings

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mocox.datasets import ImageFiles, decode
from tests.test_fuzz.cases import MAX_GROWTH_MB, fuzz, mutations, peak_mb


def encode(image: Image.Image, file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def seeds() -> dict[str, bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)
    photo = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x112] = 6
    made = {name: encode(photo, name) for name in ('PNG', 'GIF', 'WEBP', 'TIFF', 'BMP', 'PPM', 'TGA', 'JPEG2000')}
    for mode in ('L', 'CMYK'):
        made[f'JPEG {mode}'] = encode(photo.convert(mode), 'JPEG')
    made['JPEG'] = encode(photo, 'JPEG', exif=exif)
    made['JPEG progressive'] = encode(photo, 'JPEG', progressive=True)
    made['PNG palette'] = encode(photo.convert('P'), 'PNG', transparency=3)
    made['PNG 16'] = encode(Image.fromarray(pixels[..., 0].astype(np.uint16) * 200), 'PNG')
    made['TIFF deflate'] = encode(photo, 'TIFF', compression='tiff_deflate')
    made['TIFF float'] = encode(Image.fromarray(pixels[..., 0].astype(np.float32)), 'TIFF')
    made['GIF frames'] = encode(photo, 'GIF', save_all=True, append_images=[photo.rotate(90)])
    made['WEBP lossless'] = encode(photo, 'WEBP', lossless=True, exif=exif)
    return made


SEEDS = seeds()
FOUND: list[bytes] = []


@fuzz(500)
@given(mutations(SEEDS) | st.binary(max_size=200))
def try_to_decode(data: bytes) -> None:
    """An array comes out, or one of the errors that are stated, which ``ImageFiles`` takes for an unreadable file."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of Pillow, about damaged EXIF
        try:
            image = decode(data)
        except (ValueError, OSError, ImportError, Image.DecompressionBombError):
            return
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert 0 < image.size <= 6 * Image.MAX_IMAGE_PIXELS


def test_mutated_images():
    before = peak_mb()
    try_to_decode()
    assert peak_mb() - before < MAX_GROWTH_MB


@fuzz(60)
@given(st.lists(mutations(SEEDS), min_size=1, max_size=8))
def test_a_folder_of_mutated_images(tmp_path_factory, files):
    """Whatever lies in a folder: with one good image, every item shows some image."""
    folder = tmp_path_factory.mktemp('images')
    for number, data in enumerate([*files, SEEDS['PNG']]):
        (folder / f'{number}.png').write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        dataset = ImageFiles(str(folder), dict(type='RandomResizedCrops', size=4), max_replacements=1000)
        assert all(item['inputs'][0].shape == (3, 4, 4) for item in dataset)
    assert dataset.num_unreadable < len(dataset)
