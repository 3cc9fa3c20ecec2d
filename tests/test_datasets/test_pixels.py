"""Which bands count, what their numbers mean, and what a folder says of both."""

import io
import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mocox.datasets import CenterCrop, ImageFiles, Pixels, RandomAffineCrops, RandomResizedCrops, collate_views, decode
from mocox.datasets.pixels import to_rgb8
from mocox.models import ViewsPreprocessor
from mocox.registry import DATASETS

CROPS = dict(type='RandomResizedCrops', size=8)
RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64, 1)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, 'PNG')
    return buffer.getvalue()


@pytest.mark.parametrize(
    ('value_range', 'depth', 'dtype', 'expected'),
    [
        ('auto', None, np.uint8, RAMP / 257),
        ('dtype', 16, np.uint16, RAMP),
        ((0, 4095), None, np.uint16, RAMP * (65535 / 4095)),
        ((0, 4095), 8, np.uint8, RAMP * (255 / 4095)),
        ((1000, 1200), None, np.uint8, (RAMP - 1000.0).clip(0, 200) * (255 / 200)),
        ((-0.5, 2047.5), 32, np.float32, (RAMP + 0.5).clip(0, 2048) * (255 / 2048)),
        ('percentile', 32, np.float32, ((RAMP - 40.95) / (4054.05 - 40.95)).clip(0, 1) * 255),
    ],
)
def test_ranges(value_range, depth, dtype, expected):
    found = decode(png(RAMP), pixels=Pixels(1, value_range, depth))
    assert (found.shape, found.dtype) == ((64, 64, 1), dtype)
    if dtype == np.float32:
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4)
    else:
        assert np.abs(found - expected).max() <= 0.51  # rounded to the nearest, in single precision


def test_a_pair_is_for_images_of_more_than_8_bits():
    """In a mixed folder a photograph keeps its levels."""
    photo = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    np.testing.assert_array_equal(decode(png(photo), pixels=Pixels(value_range=(0, 4095), depth=8)), photo)
    np.testing.assert_array_equal(decode(png(photo), pixels=Pixels(value_range=(0, 4095))), photo * np.uint16(257))


def test_channels():
    gray, rgb = np.arange(64, dtype=np.uint8).reshape(8, 8, 1), np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    rgba = np.dstack([rgb, gray])
    assert decode(png(gray), pixels=Pixels(1)).tolist() == gray.tolist()
    np.testing.assert_array_equal(
        decode(png(rgb), pixels=Pixels(1))[:, :, 0], np.rint(rgb @ np.array([0.299, 0.587, 0.114]))
    )
    np.testing.assert_array_equal(decode(png(rgba), pixels=Pixels(4)), rgba)
    for pixels in (rgb, gray):
        with pytest.raises(ValueError, match=r'and channels=4: set channels='):
            decode(png(pixels), pixels=Pixels(4))
    np.testing.assert_array_equal(decode(png(rgba), pixels=Pixels([3, 0])), rgba[:, :, [3, 0]])
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, 'JPEG', quality=95)
    plain = decode(buffer.getvalue())
    np.testing.assert_array_equal(decode(buffer.getvalue(), pixels=Pixels([2])), plain[:, :, 2:])


def test_floating_point_needs_a_range():
    values = np.linspace(-3, 5, 64, dtype=np.float32).reshape(8, 8)
    values[0, 0], values[0, 1] = np.nan, np.inf
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values)
    with pytest.raises(ValueError, match=r'float32 numbers.*value_range=\(LOW, HIGH\)'):
        decode(buffer.getvalue())
    found = decode(buffer.getvalue(), pixels=Pixels(1, (-3.0, 5.0)))[:, :, 0]
    assert found.dtype == np.uint16
    assert (found[0, 0], found[0, 1], found[-1, -1]) == (0, 65535, 65535)
    np.testing.assert_allclose(found[1:], np.rint((values[1:] + 3) / 8 * 65535), atol=1)


@pytest.mark.parametrize(
    'wrong',
    [
        *(dict(channels=value) for value in (0, -1, 513, [], [-1], 2.5, True, 'all')),
        *(dict(value_range=value) for value in ('full', (1, 1), (2, 1), (0, np.nan), (0,), None)),
        dict(depth=12),
    ],
)
def test_values_that_cannot_be(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Pixels(**wrong)


def test_one_setting_travels():
    assert Pixels().settings() == {}
    setting = Pixels([3, 2, 1], (0, 10000))
    assert setting.settings() == dict(channels=[3, 2, 1], value_range=[0, 10000])
    assert Pixels.from_settings(dict(setting.settings(), classes=('a',))) == setting
    assert (setting.num_channels, setting.bits) == (3, 16)


def write_bands(root: Path, num: int, bands: int) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 10000, (num, 20, 24, bands), dtype=np.uint16)
    for i, image in enumerate(values):
        options = dict(planarconfig='contig') if bands > 1 else {}
        tifffile.imwrite(root / f'{i}.tif', image.squeeze(), photometric='minisblack', **options)
    return values


@pytest.mark.parametrize('bands', [1, 2, 4, 13])
@pytest.mark.parametrize('depth', [8, 16, 32])
@pytest.mark.parametrize('num_workers', [0, 1])
def test_bands_from_file_to_model(tmp_path, bands, depth, num_workers):
    """Crops of the whole image, so that every number is known at the end."""
    values = write_bands(tmp_path, 4, bands)
    dataset = DATASETS.build(
        dict(
            type='ImageFiles',
            data_root=str(tmp_path),
            channels=bands,
            value_range=(0, 10000),
            depth=depth,
            crops=dict(type='CenterCrop', size=20, resize=20),
        )
    )
    assert dataset.metainfo['pixels']['channels'] == bands
    (batch,) = DataLoader(dataset, 4, num_workers=num_workers, collate_fn=collate_views)
    assert batch['inputs'][0].dtype == {8: torch.uint8, 16: torch.uint16, 32: torch.float32}[depth]
    mean, std = [100.0 + i for i in range(bands)], [50.0 + i for i in range(bands)]
    (found,) = ViewsPreprocessor(mean, std, [{}])(batch)['inputs']
    expected = torch.from_numpy(values[:, :, 2:22] / 10000 * 255).permute(0, 3, 1, 2)
    expected = (expected - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol={8: 0.5, 16: 0.5 / 257, 32: 1e-4}[depth] / 49)


def test_channels_that_the_preprocessor_does_not_know(tmp_path):
    write_bands(tmp_path, 1, 2)
    batch = collate_views([ImageFiles(str(tmp_path), CROPS, channels=2)[0]])
    with pytest.raises(ValueError, match='the images have 2 channels, mean and std of data_preprocessor 3'):
        ViewsPreprocessor([1, 2, 3], [1, 1, 1], [{}, {}])(batch)


@pytest.mark.parametrize('crops', [RandomResizedCrops(8), RandomAffineCrops(8, degrees=30, fill=100)])
@pytest.mark.parametrize('dtype', [np.uint16, np.float32])
def test_crops_are_those_of_8_bits(crops, dtype):
    """Band by band, to a level."""
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 6), dtype=np.uint8)
    image = image.repeat(3, 0).repeat(3, 1)
    deep = image.astype(dtype) * (257 if dtype == np.uint16 else 1)
    views = crops(deep, np.random.default_rng(1))
    for i in (0, 3):
        part = np.ascontiguousarray(image[:, :, i : i + 3])
        for view, expected in zip(views, crops(part, np.random.default_rng(1)), strict=True):
            found = view[i : i + 3].float() / (257 if dtype == np.uint16 else 1)
            assert (found - expected.float()).abs().max() <= 2
    assert views[0].dtype == (torch.uint16 if dtype == np.uint16 else torch.float32)


@pytest.mark.parametrize('shape', [(3, 240), (240, 3), (3, 241), (4, 333)])
def test_long_images_are_cut_before_they_are_resized(shape, monkeypatch):
    """A gradient, of which the middle of a 16 times as long one shows what the whole one does."""
    ramp = np.arange(max(shape)) * (255 / max(shape))
    image = np.broadcast_to(ramp if shape[1] > shape[0] else ramp[:, None], shape).astype(np.uint8)
    image = image[:, :, None].repeat(3, 2)
    found = CenterCrop(16, 20)(image, None)[0]
    monkeypatch.setattr('mocox.datasets.transforms.MAX_ELONGATION', 10**6)
    expected = CenterCrop(16, 20)(image, None)[0]
    assert (found.int() - expected.int()).abs().max() <= 1


def test_an_extreme_shape_takes_the_memory_of_its_crop(monkeypatch):
    largest = []
    resize = torch.nn.functional.interpolate
    monkeypatch.setattr(
        'mocox.datasets.transforms.F.interpolate',
        lambda x, size, **options: (largest.append(size[0] * size[1]), resize(x, size=size, **options))[1],
    )
    data = (Path(__file__).parents[1] / 'data' / 'images' / 'spacer_1x30000.png').read_bytes()
    assert CenterCrop(224, 256)(decode(data), None)[0].shape == (3, 224, 224)
    assert max(largest) <= 256 * 256 * 17


def test_what_is_left_out_is_counted(tmp_path, monkeypatch):
    for name in ('a.png', 'b/c.png', '@eaDir/a.png', 'b/$RECYCLE.BIN/x.png', '#recycle/z.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        Image.new('RGB', (9, 9)).save(tmp_path / name)
    for name in ('x.dcm', 'y.DCM', 'z.heic', 'notes.txt', 'b/LICENSE'):
        (tmp_path / name).write_bytes(b'')
    monkeypatch.setattr('mocox.datasets.image_files.find_spec', lambda library: None)
    logged = []
    monkeypatch.setattr('mocox.datasets.encoded_images.print_log', lambda text, **options: logged.append(text))
    dataset = ImageFiles(str(tmp_path), CROPS)
    assert len(dataset) == 2
    expected = {'.dcm': 2, '.heic': 1, '.txt': 1, 'none': 1, '@eaDir/': 1, '$RECYCLE.BIN/': 1, '#recycle/': 1}
    assert dataset.left_out == expected
    (line,) = logged
    assert 'left out by ending: .dcm 2, ' in line
    assert line.count('pip install "mocox[dicom]"') == line.count('pip install "mocox[heif]"') == 1
    (tmp_path / 'a.png').unlink()
    (tmp_path / 'b/c.png').unlink()
    with pytest.raises(ValueError, match=r'left out by ending: .dcm 2.*pip install "mocox\[dicom\]"'):
        ImageFiles(str(tmp_path), CROPS)


def test_a_dark_folder_is_named_with_its_cure(tmp_path):
    for i in range(3):
        Image.fromarray(RAMP[:, :, 0]).save(tmp_path / f'{i}.png')
    ((level, note),) = ImageFiles(str(tmp_path), CROPS).file_notes
    assert level == logging.WARNING
    assert 'numbers from 0 to 4095, 6% of the range 0 to 65535' in note
    assert 'set train_dataloader.dataset.value_range="(0,4095)"' in note
    ((level, note),) = ImageFiles(str(tmp_path), CROPS, value_range=(0, 4095)).file_notes
    assert (level, '100% of the range 0 to 4095' in note) == (logging.INFO, True)
    ((_, note),) = ImageFiles(str(tmp_path), CROPS, value_range='percentile').file_notes
    assert 'stretched by itself' in note


def test_bands_and_pages_that_are_not_used_are_named(tmp_path):
    values = write_bands(tmp_path, 2, 13)
    with tifffile.TiffWriter(tmp_path / 'pages.tif') as writer:
        for page in values:
            writer.write(page, planarconfig='contig', photometric='minisblack', contiguous=False)
    setting = dict(channels=[3, 2, 1], value_range=(0, 10000))
    notes = [note for _, note in ImageFiles(str(tmp_path), CROPS, **setting).file_notes]
    assert 'not used of 3 files looked at: 10 of 13 bands' in notes
    assert 'not used of 1 files looked at: further pages or frames than the first' in notes
    (tmp_path / 'alpha').mkdir()
    Image.fromarray(np.zeros((9, 9, 4), np.uint8)).save(tmp_path / 'alpha/1.png')
    assert ImageFiles(str(tmp_path / 'alpha'), CROPS).file_notes == [(20, 'not used of 1 files looked at: alpha')]


def test_files_that_need_a_library_are_counted_and_named_once(tmp_path, monkeypatch):
    write_bands(tmp_path, 3, 5)
    Image.new('RGB', (9, 9)).save(tmp_path / '9.png')
    monkeypatch.setitem(__import__('sys').modules, 'tifffile', None)
    logged = []
    monkeypatch.setattr('mocox.datasets.encoded_images.print_log', lambda text, **options: logged.append(text))
    dataset = ImageFiles(str(tmp_path), CROPS)
    list(dataset)
    assert (dataset.num_missing, dataset.num_unreadable) == (3, 3)
    (line,) = logged
    assert 'pip install "mocox[scientific]"' in line


def test_pictures_for_people():
    assert to_rgb8(np.full((2, 2, 1), 65535, np.uint16)).tolist() == [[[255] * 3] * 2] * 2
    bands = np.arange(13, dtype=np.float32).reshape(1, 1, 13)
    assert to_rgb8(bands).tolist() == [[[0, 1, 2]]]
    assert to_rgb8(bands[:, :, :2]).tolist() == [[[0, 1, 1]]]
