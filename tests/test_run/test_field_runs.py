"""Folders as the field has them, from files to features in another program: each station against an own reading.

``mocox pretrain`` chooses, trains, and writes what evaluation, features and an ONNX file are made from; the numbers of
the files are read here by tifffile, NumPy, Pillow and pydicom alone, and the graph runs in onnxruntime alone.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pydicom
import pytest
import tifffile
from mmengine.config import Config
from PIL import Image
from pydicom.data import get_testdata_file

import mocox
from mocox.checkpoint import read
from mocox.checkpoint.writing import convert
from mocox.datasets import ImageFiles, Pixels
from mocox.doctor.speed import measure
from mocox.evaluation.pipeline import evaluate
from mocox.export import export
from mocox.recipe import Recipe
from tests.support.processes import forget_runner

CROPS = dict(type='RandomResizedCrops', size=16)
TINY = {'model.neck.hid_channels': 16, 'model.head.predictor.hid_channels': 16, 'model.backbone.base_channels': 8}
TINY |= {'model.backbone.stem_channels': 8, 'model.neck.in_channels': 64, 'default_hooks.report.num_images': 0}
NUM, SIDE = 24, 32
STRIPES = np.tile(np.arange(SIDE) // 4 % 2 - 0.5, (SIDE, 1))  # what one class has, of the same mean


def smooth(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Noise that crops and resizing leave something of, 0 to 1."""
    return rng.random((4, 4, *shape)).repeat(8, 0).repeat(8, 1)


def scene(rng: np.random.Generator, bands: int) -> np.ndarray:
    """What all images have in common, and a little of their own, 0 to 1."""
    return 0.8 * smooth(np.random.default_rng(99), bands) + 0.2 * smooth(rng, bands)


def write_bands(path: Path, rng: np.random.Generator, label: int) -> None:
    """Of 13; the classes differ in the eleventh alone."""
    values = 3000 * scene(rng, 13)
    values[:, :, 10] = values[:, :, 10] / 6 + 6000 * label
    tags = [(33550, 'd', 3, (10.0, 10.0, 0.0), True), (33922, 'd', 6, (0.0, 0.0, 0.0, 4e5, 5e6, 0.0), True)]  # GeoTIFF
    tifffile.imwrite(path.with_suffix('.tif'), values.astype(np.uint16), planarconfig='contig',
                     photometric='minisblack', compression='deflate', extratags=tags)  # fmt: skip


def write_scan(path: Path, rng: np.random.Generator, label: int) -> None:
    """12 bits in a PNG of 16; the classes differ in bits that 8 of 16 do not keep."""
    Image.fromarray((40 * smooth(rng) + 80 * label + 4000 * (path.name == '00')).astype(np.uint16)).save(
        path.with_suffix('.png')
    )


def write_floats(path: Path, rng: np.random.Generator, label: int) -> None:
    """Two bands, some of the numbers missing."""
    values = (0.6 * scene(rng, 2) + [0.5 * label, -0.1]).astype(np.float32)
    values[:8] = -9999
    tifffile.imwrite(path.with_suffix('.tif'), values, planarconfig='contig', photometric='minisblack')


def write_dicom(path: Path, rng: np.random.Generator, label: int) -> None:
    """A part of the computed tomogram that pydicom has; one class has stripes of 600 Hounsfield units."""
    file = pydicom.dcmread(get_testdata_file('CT_small.dcm', download=False))
    top, left = rng.integers(0, 128 - SIDE, 2)
    part = file.pixel_array[top : top + SIDE, left : left + SIDE] + 600 * label * STRIPES
    file.Rows, file.Columns, file.PixelData = SIDE, SIDE, part.astype('<i2').tobytes()
    file.WindowCenter, file.WindowWidth = 200, 2000
    file.save_as(path.with_suffix('.dcm'))


def write_mixed(path: Path, rng: np.random.Generator, label: int) -> None:
    """Photographs of 8 bits, scans of 12, colour of 12 bits with its planes apart, palettes, arrays."""
    colour = smooth(rng, 3) / 2 + 0.25 + label * STRIPES[:, :, None] / 2
    kind = int(path.name) // 2 % 6
    levels, numbers = (colour * 255).astype(np.uint8), (colour * 4095).astype(np.uint16)
    if kind == 0:
        Image.fromarray(levels).save(path.with_suffix('.webp'), lossless=True)
    elif kind == 1:
        Image.fromarray(numbers[:, :, 0]).save(path.with_suffix('.png'))
    elif kind == 2:
        planes = np.ascontiguousarray(numbers.transpose(2, 0, 1))
        tifffile.imwrite(path.with_suffix('.tif'), planes, planarconfig='separate', photometric='rgb')
    elif kind == 3:
        Image.fromarray(levels).quantize(64).save(path.with_suffix('.gif'))
    elif kind == 4:
        np.save(path.with_suffix('.npy'), numbers)
    else:
        Image.fromarray(np.dstack([levels, levels[:, :, :1]])).save(path.with_suffix('.png'))


def break_some(folder: Path) -> set[str]:
    """Lays broken files beside the others; returns their names."""
    buffer = io.BytesIO()
    Image.fromarray((255 * smooth(np.random.default_rng(1), 3)).astype(np.uint8)).save(buffer, 'PNG')
    (folder / 'a' / 'cut.png').write_bytes(buffer.getvalue()[:-60])
    (folder / 'b' / 'empty.tif').write_bytes(b'')
    (folder / 'note.xml').write_text('<a/>')
    return {'cut.png', 'empty.tif'}


def spoil_dicoms(folder: Path) -> set[str]:
    for name, label in (('rtplan', 'a'), ('MR_truncated', 'b')):
        data = Path(get_testdata_file(f'{name}.dcm', download=False)).read_bytes()
        (folder / label / f'{name}.dcm').write_bytes(data)
    return {'rtplan.dcm', 'MR_truncated.dcm'}


def read_numbers(path: Path) -> np.ndarray:
    """(H, W, C), without mocox; of 8 bits in levels, else as stored or rescaled."""
    if path.suffix == '.dcm':
        file = pydicom.dcmread(path)
        return (file.pixel_array * float(file.RescaleSlope) + float(file.RescaleIntercept))[:, :, None]
    if path.suffix == '.npy':
        return np.load(path)
    if path.suffix == '.tif':
        values = tifffile.imread(path)
        return values.transpose(1, 2, 0) if values.shape[0] == 3 else values
    with Image.open(path) as image:
        values = np.asarray(image if image.mode.startswith('I') else image.convert('RGB'))
    return values if values.ndim == 3 else values[:, :, None]


@dataclass(frozen=True)
class Kind:
    """A folder, and what is to come of it."""

    write: Callable[[Path, np.random.Generator, int], None]
    channels: int
    pair: tuple[float, float] | None  # None: as measured
    reason: str
    spoil: Callable[[Path], set[str]] = lambda folder: set()
    knn: int = 80  # of 24 images: chance has as much once in a thousand runs


KINDS = {
    'GeoTIFFs of 13 bands': Kind(write_bands, 13, (0, 8191), 'all 24 images looked at have 13 bands'),
    'scans of 12 bits': Kind(write_scan, 1, (0, 4095), 'all 24 images looked at have one channel'),
    'TIFFs of float32': Kind(write_floats, 2, None, 'all 24 images looked at have 2 bands'),
    'DICOMs': Kind(write_dicom, 1, (-800, 1199), 'have one channel', spoil_dicoms),
    'everything, some broken': Kind(write_mixed, 3, (0, 4095), 'the range is that of their numbers', break_some),
}


@pytest.mark.slow  # each a whole run: five to ten seconds
@pytest.mark.parametrize('name', KINDS)
def test_from_files_to_features_elsewhere(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('mocox.auto.measure', lambda recipe, dataset, seconds: measure(recipe, dataset, 0.1))
    kind, rng = KINDS[name], np.random.default_rng(0)
    for i in range(NUM):
        path = tmp_path / 'data' / 'ab'[i % 2] / f'{i:02}'
        path.parent.mkdir(parents=True, exist_ok=True)
        kind.write(path, rng, i % 2)
    broken = kind.spoil(tmp_path / 'data')
    run = mocox.pretrain('data', out='out', epochs=3, image_size=SIDE, workers=0, options=TINY)
    shown = capsys.readouterr()
    assert kind.reason in shown.out
    forget_runner()
    log = next(Path('out').glob('*/*.log')).read_text()
    assert f'unreadable images: {len(broken)} of {NUM + len(broken)}' in log
    assert all(name in next(Path('out').glob('*/unreadable_images.txt')).read_text() for name in broken)
    assert 'note.xml' not in log and ('left out by ending: .xml 1' in log) == Path('data/note.xml').exists()

    paths = sorted(path for path in Path('data').glob('?/*') if path.name not in broken)
    numbers = [read_numbers(path) for path in paths]
    pixels = Pixels.from_settings(read(run.checkpoint).meta['pixels'])
    black, white = kind.pair or np.percentile(np.stack(numbers)[:, 8:], [0.1, 99.9])
    levels = []
    for values in numbers:
        is_deep = values.dtype != np.uint8
        scaled = (values.astype(float) - black) / (white - black) if is_deep else values / 255
        levels.append(np.broadcast_to(scaled.clip(0, 1) * 255, (SIDE, SIDE, kind.channels)))
    levels = np.stack(levels)
    assert pixels.num_channels == kind.channels
    mean = Recipe(Config.fromfile(run.config)).preprocessor['mean']
    assert mean == pytest.approx(levels.mean((0, 1, 2)), abs=0.2)
    dataset = ImageFiles('data', CROPS, **pixels.settings())
    tolerance = 0.01 if pixels.bits == 16 else 0.51
    rows = {dataset.path(row): row for row in range(len(dataset))}
    for path, expected in zip(paths, levels, strict=True):  # what training, features and evaluation see
        seen = dataset.load(rows[str(path)])[0] / (257 if pixels.bits == 16 else 1)
        np.testing.assert_allclose(seen, expected, atol=tolerance, err_msg=str(path))

    report = evaluate(run.checkpoint, 'data', ['knn'], work_dir='judged', cache_dir='judged/cache')
    assert max(row['value'] for row in report['results']) >= kind.knn

    found = mocox.features(run.checkpoint, 'data')
    assert sorted(found.paths) == [str(path) for path in paths]
    export(run.checkpoint, 'net.onnx', normalise=True)
    session = onnxruntime.InferenceSession('net.onnx', providers=['CPUExecutionProvider'])
    images = np.ascontiguousarray(levels.transpose(0, 3, 1, 2)).astype(np.float32)
    (elsewhere,) = session.run(['features'], {'images': images})
    ours = found.features[[found.paths.index(str(path)) for path in paths]]
    np.testing.assert_allclose(elsewhere, ours, atol=(0.002 if pixels.bits == 16 else 0.05) * np.abs(ours).max())
    (usage, *_) = convert(run.checkpoint, 'timm.safetensors', 'timm')
    assert ('in_chans=' in usage) == (kind.channels != 3)
    assert Pixels.from_settings(read('timm.safetensors').meta['pixels']) == pixels
