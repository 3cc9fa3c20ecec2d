"""Which bands count, what their numbers mean, and what a folder says of both."""

import io
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mocox.datasets import (
    CenterCrop,
    ImageFiles,
    Pixels,
    RandomAffineCrops,
    RandomResizedCrops,
    TransformedCrops,
    collate_views,
    decode,
)
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
        *(dict(auto_range=value) for value in ((1, 0), (0,), 'auto')),
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
    monkeypatch.setattr('mocox.datasets.resizing.MAX_ELONGATION', 10**6)
    expected = CenterCrop(16, 20)(image, None)[0]
    assert (found.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize('upright', [True, False])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    'crops',
    [
        CenterCrop(224, 256),
        RandomResizedCrops(224),
        RandomResizedCrops(224, scale=(1, 1), interpolation='bicubic'),
        RandomAffineCrops(224, degrees=10),
        TransformedCrops(dict(type='RandomResizedCrops', size=224), []),
    ],
    ids=lambda crops: type(crops).__name__,
)
def test_an_extreme_shape_takes_the_memory_of_its_crop(monkeypatch, crops, dtype, upright):
    """Whatever is resized has been cut before, to a few times what it becomes."""
    largest = [0]
    resize = torch.nn.functional.interpolate

    def watched(x, size, **options):
        largest.append(max(size[0] * size[1], x.shape[2] * x.shape[3]))
        return resize(x, size=size, **options)

    monkeypatch.setattr('mocox.datasets.resizing.F.interpolate', watched)
    image = decode((Path(__file__).parents[1] / 'data' / 'images' / 'spacer_1x30000.png').read_bytes()).astype(dtype)
    image = image if (image.shape[0] > image.shape[1]) == upright else np.ascontiguousarray(image.transpose(1, 0, 2))
    for view in crops(image, np.random.default_rng(0)):
        assert view.shape == (3, 224, 224)
    assert max(largest) <= 256 * 256 * 17


@pytest.mark.parametrize('dtype', ['f4', 'f8', 'i4', 'u4'])
def test_a_range_is_measured_on_the_files_that_say_none(tmp_path, dtype):
    """The 0.1st and 99.9th percentile of all numbers, the same for every image, in crops of 16 bits."""
    rng = np.random.default_rng(0)
    low = 0 if dtype == 'u4' else -40000
    values = rng.integers(low, 90000, (5, 16, 16)).astype(dtype)
    values[2] //= 10  # an image of less contrast stays one
    for i, image in enumerate(values):
        tifffile.imwrite(tmp_path / f'{i}.tif', image)
    dataset = ImageFiles(str(tmp_path), dict(type='CenterCrop', size=16, resize=16), channels=1)
    black, white = np.percentile(values.astype(np.float64), [0.1, 99.9])
    assert dataset.pixels == Pixels(1, 'auto', 16, (black, white))
    assert Pixels.from_settings(dataset.pixels.settings()) == dataset.pixels
    for i, image in enumerate(values.astype(np.float64)):
        expected = ((image - black) / (white - black)).clip(0, 1) * 65535
        assert np.abs(dataset[i]['inputs'][0][0].numpy() - expected).max() <= 1
    notes = ' '.join(note for _, note in dataset.file_notes)
    assert f'5 images looked at say no range (floating point, 32 bits): black is {black:g} and white {white:g}' in notes
    assert dataset.metainfo['pixels']['auto_range'] == [black, white]
    told = ImageFiles(str(tmp_path), CROPS, channels=1, auto_range=(0, 10))
    assert told.pixels.auto_range == (0, 10)


def test_what_was_measured_once_is_kept(tmp_path):
    """By a resumed run, and for the images of validation; what a config says stays."""
    for i in range(3):
        tifffile.imwrite(tmp_path / f'{i}.tif', np.linspace(i, 1 + i, 256, dtype=np.float32).reshape(16, 16))
    then = Pixels(1, auto_range=(0.0, 5.0), depth=32)
    dataset = ImageFiles(str(tmp_path), CROPS, channels=1)
    measured = dataset.pixels.auto_range
    dataset.use_measured({})  # of a run that measured nothing
    assert (dataset.pixels.auto_range, dataset.pixels.bits) == (measured, 8)
    dataset.use_measured(then.settings())
    assert dataset.pixels == then
    for setting in (dict(value_range=(0, 1), depth=16), dict(auto_range=(0, 1), depth=16)):
        dataset = ImageFiles(str(tmp_path), CROPS, channels=1, **setting)
        dataset.use_measured(then.settings())
        assert dataset.pixels == Pixels(1, **setting)


@pytest.mark.parametrize(('num_deep', 'bits'), [(0, 8), (2, 8), (3, 16)])
def test_crops_have_the_depth_of_most_files(tmp_path, num_deep, bits):
    for i in range(5):
        values = np.arange(256).reshape(16, 16)
        Image.fromarray((values * 100).astype(np.uint16) if i < num_deep else values.astype(np.uint8)).save(
            tmp_path / f'{i}.png'
        )
    dataset = ImageFiles(str(tmp_path), CROPS)
    assert dataset.pixels.bits == bits
    assert dataset[0]['inputs'][0].dtype == (torch.uint16 if bits == 16 else torch.uint8)
    assert dataset.metainfo == (dict(pixels=dict(depth=16)) if bits == 16 else {})
    *kinds, (_, others) = dataset.file_notes or [(0, '')]
    assert (f'the other {5 - num_deep} images looked at have 8 bits' in others) == bool(num_deep)
    cures = [note.partition('keep not all of their steps; set ')[2] for _, note in kinds]
    assert cures == ([''] if num_deep == 3 else ['train_dataloader.dataset.depth=16'] if num_deep else [])
    assert ImageFiles(str(tmp_path), CROPS, depth=8).pixels.bits == 8


@pytest.mark.parametrize(('dtype', 'nodata'), [('f4', -9999), ('u2', 65535), ('i2', -32768), ('u2', 0), ('f4', 'nan')])
@pytest.mark.parametrize('bands', [1, 3])
def test_missing_values_of_a_geotiff_are_black_and_not_measured(tmp_path, dtype, nodata, bands):
    values = np.random.default_rng(0).integers(200, 1000, (16, 16, bands)).astype(dtype)
    missing = np.zeros((16, 16, bands), bool)
    missing[:5], missing[8, 8, 0] = True, True
    stored = np.where(missing, np.dtype(dtype).type(nodata), values)
    options = dict(planarconfig='contig') if bands > 1 else {}
    tag = (42113, 's', 0, f'{nodata} ', True)  # as GDAL writes it
    for i in range(2):
        tifffile.imwrite(tmp_path / f'{i}.tif', stored.squeeze(), photometric='minisblack', extratags=[tag], **options)
    data = (tmp_path / '0.tif').read_bytes()
    found = decode(data, pixels=Pixels(bands, (100, 1000)))
    np.testing.assert_allclose(found, np.where(missing, 0, (values - 100.0) / 900 * 65535), atol=1)
    dataset = ImageFiles(str(tmp_path), CROPS, channels=bands)
    notes = ' '.join(note for _, note in dataset.file_notes)
    assert f'numbers from {values[~missing].min():g} to {values[~missing].max():g}, ' in notes
    if dtype == 'f4':
        assert dataset.pixels.auto_range == pytest.approx(np.percentile(np.tile(values[~missing], 2), [0.1, 99.9]))
    stretched = decode(data, pixels=Pixels(bands, 'percentile'))
    assert (stretched[missing] == 0).all() and stretched[~missing].max() == 255


def test_what_is_left_out_is_counted(tmp_path, monkeypatch):
    for name in ('a.png', 'b/c.png', '@eaDir/a.png', 'b/$RECYCLE.BIN/x.png', '#recycle/z.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        Image.new('RGB', (9, 9)).save(tmp_path / name)
    for name in ('x.dcm', 'y.DCM', 'z.heic', 'notes.txt', 'b/LICENSE', '._a.png', '.DS_Store', '.thumbs/a.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b'')
    monkeypatch.setattr('mocox.datasets.folders.find_spec', lambda library: None)
    logged = []
    monkeypatch.setattr('mocox.datasets.encoded_images.print_log', lambda text, **options: logged.append(text))
    dataset = ImageFiles(str(tmp_path), CROPS)
    assert len(dataset) == 2
    expected = {'.dcm': 2, '.heic': 1, '.txt': 1, 'none': 1, '@eaDir/': 1, '$RECYCLE.BIN/': 1, '#recycle/': 1}
    expected |= {'hidden images': 1, '.thumbs/': 1}
    assert dataset.left_out == expected
    (line,) = logged
    assert 'left out by ending: .dcm 2, ' in line
    assert line.count('pip install "mocox[dicom]"') == line.count('pip install "mocox[heif]"') == 1
    (tmp_path / 'a.png').unlink()
    (tmp_path / 'b/c.png').unlink()
    with pytest.raises(ValueError, match=r'left out by ending: .dcm 2.*pip install "mocox\[dicom\]"'):
        ImageFiles(str(tmp_path), CROPS)


def test_a_hot_pixel_hides_no_dark_folder(tmp_path):
    for i in range(3):
        values = RAMP[:, :, 0].repeat(8, 0).repeat(8, 1)
        values[0, 0] = 65535 if i == 1 else 0
        Image.fromarray(values).save(tmp_path / f'{i}.png')
    ((level, note),) = ImageFiles(str(tmp_path), CROPS).file_notes
    assert level == logging.WARNING
    assert 'numbers from 0 to 65535 (4 to 4091 without those far off), 6% of the range 0 to 65535' in note
    assert 'set train_dataloader.dataset.value_range="(0,4095)"' in note


@pytest.mark.parametrize(('dtype', 'marker', 'cure'), [
    ('i2', -32768, 'value_range="(-90,195)"'), ('i2', -9999, 'value_range="(-90,195)"'),
    ('u2', 65535, 'value_range="(0,255)" train_dataloader.dataset.nodata=65535'),
])  # fmt: skip
def test_missing_values_that_no_tag_names_are_found(tmp_path, dtype, marker, cure):
    values = np.linspace(0 if dtype == 'u2' else -90, 195, 1024).reshape(32, 32).astype(dtype)
    values[1:9] = marker
    for i in range(3):
        tifffile.imwrite(tmp_path / f'{i}.tif', values)
    notes = ImageFiles(str(tmp_path), CROPS, channels=1).file_notes
    level, note = notes[-1]
    assert sum('; set ' in note for _, note in notes) == 1
    assert level == logging.WARNING and ' without those far off)' in note
    assert note.endswith(f'; set train_dataloader.dataset.{cure}')
    settings = dict(value_range=(-90, 195) if dtype == 'i2' else (0, 255), nodata=marker if dtype == 'u2' else None)
    dataset = ImageFiles(str(tmp_path), CROPS, channels=1, **settings)  # the line, copied
    assert (dataset.load(0)[0][1:9] == 0).all() and dataset.file_notes[-1][0] == logging.INFO


@pytest.mark.parametrize('marker', [-9999, -3.4028235e38, 1e20, 9.96921e36, -777777])
@pytest.mark.parametrize(('low', 'high'), [(-90, 195), (0, 8848)])
@pytest.mark.parametrize('dtype', ['f4', 'f8'])
def test_missing_values_of_floating_point_are_found_black_and_not_measured(tmp_path, dtype, marker, low, high):
    """Heights and temperatures with a number for what is missing, of which no tag tells."""
    values = np.random.default_rng(0).uniform(low, high, (2, 32, 32)).astype(dtype)
    stored = values.copy()
    stored[:, 1:9] = marker
    for i in range(2):
        tifffile.imwrite(tmp_path / f'{i}.tif', stored[i])
    dataset = ImageFiles(str(tmp_path), CROPS, channels=1)
    measured = np.percentile(np.delete(stored, np.s_[1:9], axis=1), [0.1, 99.9])
    assert dataset.pixels.auto_range == pytest.approx(measured)
    assert dataset.pixels.nodata == np.dtype(dtype).type(marker)
    expected = (values[0] - measured[0]) / (measured[1] - measured[0]) * 65535
    expected[1:9] = 0
    np.testing.assert_allclose(dataset.load(0)[0][:, :, 0], expected.clip(0, 65535), atol=1)
    assert any(note.startswith('25.0% of the numbers are ') for level, note in dataset.file_notes if level > 20)
    again = Pixels.from_settings(dataset.metainfo['pixels'])  # as a checkpoint keeps it
    np.testing.assert_array_equal(decode((tmp_path / '0.tif').read_bytes(), pixels=again), dataset.load(0)[0])
    line = next(note for _, note in dataset.file_notes if '; set ' in note).partition('; set ')[2]
    assert ('nodata=' in line) == (marker > high)


def test_no_missing_values_are_found_where_there_are_none(tmp_path):
    """Zeros around an image, a saturated sensor, and a few hot pixels."""
    values = np.random.default_rng(0).uniform(0, 1, (32, 32)).astype(np.float32)
    values[:8], values[8:10], values[31, 31] = 0, 1, 1e9
    tifffile.imwrite(tmp_path / '1.tif', values)
    tifffile.imwrite(tmp_path / '2.tif', values)
    assert ImageFiles(str(tmp_path), CROPS, channels=1).pixels.nodata is None


def write_kinds(folder, *kinds):
    """Four files of each, gray: whether as PNG, and what white is in them."""
    for as_png, dtype, white in kinds:
        values = np.linspace(0, white, 1024).reshape(32, 32).astype(dtype)
        for i in range(4):
            path = folder / f'{np.dtype(dtype)}_{white}_{i}.{"png" if as_png else "tif"}'
            Image.fromarray(values).save(path) if as_png else tifffile.imwrite(path, values)


@pytest.mark.parametrize(('kinds', 'shares', 'cure'), [
    ([(True, 'u2', 4095), (True, 'u1', 255)], ['6%'], 'value_range="(0,4095)"'),
    ([(True, 'u2', 4095), (False, 'i2', 3000)], ['6%', '5%'], 'value_range="(0,4095)"'),
    ([(True, 'u2', 4095), (False, 'u2', 65535)], ['6%', '100%'], 'value_range=percentile'),
    ([(True, 'u2', 4095), (True, 'u2', 65535)], ['100%'], 'value_range=percentile'),  # the kind, and files of it
    ([(True, 'u2', 4095), (False, 'f4', 1)], ['6%'], 'value_range=percentile'),
    ([(True, 'u2', 65535), (True, 'u1', 255)], ['100%'], None),
])  # fmt: skip
def test_files_of_several_kinds_are_judged_by_kind(tmp_path, kinds, shares, cure):
    write_kinds(tmp_path, *kinds)
    dataset = ImageFiles(str(tmp_path), CROPS, channels=1)
    deep = [(level, note) for level, note in dataset.file_notes if 'have more than 8 bits' in note]
    assert sorted(re.search(r', (\d+%) of the range', note)[1] for _, note in deep) == sorted(shares)
    warned = {note.partition('; set train_dataloader.dataset.')[2] for level, note in deep if level > logging.INFO}
    assert warned == ({cure} if cure else set())
    assert any('4 images looked at have 8 bits' in note for _, note in dataset.file_notes) == ('u1' in str(kinds))
    if shares == ['100%'] and cure:
        assert '4 of them have no number above 25% of it' in deep[0][1]


def test_numbers_beyond_black_and_white_are_named_with_their_cure(tmp_path):
    for i in range(3):
        tifffile.imwrite(tmp_path / f'{i}.tif', np.linspace(-99, 195, 256, dtype=np.float32).reshape(16, 16))
    ((level, note),) = ImageFiles(str(tmp_path), CROPS, value_range='dtype').file_notes
    assert level == logging.WARNING
    assert 'of the range 0 to 1 ' in note and '100% of the numbers lie beyond it' in note
    assert 'set train_dataloader.dataset.value_range="(-99,195)"' in note


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
    assert 'not used of 1 files looked at: further pages or frames than the first (1 of 2)' in notes
    (tmp_path / 'alpha').mkdir()
    Image.fromarray(np.zeros((9, 9, 4), np.uint8)).save(tmp_path / 'alpha/1.png')
    assert ImageFiles(str(tmp_path / 'alpha'), CROPS).file_notes == [(20, 'not used of 1 files looked at: alpha')]


def test_files_that_need_a_library_are_counted_and_named_once(tmp_path, monkeypatch):
    write_bands(tmp_path, 3, 5)
    Image.new('RGB', (9, 9)).save(tmp_path / '9.png')
    monkeypatch.setitem(__import__('sys').modules, 'tifffile', None)
    logged = []
    monkeypatch.setattr('mocox.datasets.replacement.print_log', lambda text, **options: logged.append(text))
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
