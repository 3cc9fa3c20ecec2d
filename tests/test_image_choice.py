"""Whole small runs of ``mocox pretrain`` on images as the field has them: what it chooses, and what comes of it."""

import ast
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from mmengine.config import Config
from PIL import Image
from pydicom.data import get_testdata_file

from mocox.auto import plan_run
from mocox.datasets import ImageFiles
from mocox.image_choice import choose_for_images

CROPS = dict(type='RandomResizedCrops', size=16)
RECIPE = 'mocov3/resnet18_custom.py'
TINY = {'model.neck.hid_channels': 16, 'model.head.predictor.hid_channels': 16, 'model.backbone.base_channels': 8}
TINY |= {'model.backbone.stem_channels': 8, 'model.neck.in_channels': 64, 'default_hooks.report.num_images': 0}


def smooth(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Noise that crops and resizing leave something of, 0 to 1."""
    return rng.random((4, 4, *shape)).repeat(8, 0).repeat(8, 1)


def write(folder: Path, kind: str) -> dict[Path, np.ndarray]:
    """16 images of two classes; returns the numbers (H, W, C) that were written."""
    rng, made = np.random.default_rng(0), {}
    for i in range(16):
        path = folder / 'ab'[i % 2] / f'{i:02}'
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == 'bands':
            values = 3000 * smooth(rng, 13)
            values[:, :, 10] = values[:, :, 10] / 6 + 6000 * (i % 2)
            values = values.astype(np.uint16)
        elif kind == 'scans':
            values = (1500 * smooth(rng, 1) + 2500 * (i % 2)).astype(np.uint16)
        elif kind == 'floats':
            values = (0.6 * smooth(rng, 2) + [0.5 * (i % 2), -0.1]).astype(np.float32)
            values[:8] = -9999
        else:
            values = (255 * smooth(rng, 3 if kind == 'colour' else 1)).astype(np.uint8)
        if kind in ('bands', 'floats'):
            path = path.with_suffix('.tif')
            tifffile.imwrite(path, values, planarconfig='contig', photometric='minisblack')
        else:
            path = path.with_suffix('.png')
            Image.fromarray(values.squeeze()).save(path)
        made[path] = values
    return made


@pytest.mark.parametrize(('kinds', 'options', 'channels', 'changed'), [
    (['colour'], {}, 3, set()),
    (['gray'], {}, 1, {'channels', 'in_channels', 'views', 'value_range'}),
    (['gray', 'colour'], {}, 3, set()),
    (['scans', 'colour'], {}, 3, {'value_range'}),
    (['bands'], {'channels': [3, 2, 1]}, 3, {'value_range'}),
    (['bands'], {'channels': 13, 'value_range': (0, 10000)}, 13, {'in_channels', 'views'}),
])  # fmt: skip
def test_channels_and_range_are_those_of_the_images(tmp_path, kinds, options, channels, changed):
    for kind in kinds:
        write(tmp_path / kind, kind)
    given = {f'train_dataloader.dataset.{name}': value for name, value in options.items()}
    choice = choose_for_images(RECIPE, str(tmp_path), given)
    assert {name.rpartition('.')[2] for name in choice.changes} == changed
    assert choice.value.partition(',')[0] == str(channels)
    assert choice.changes.get('model.backbone.in_channels', 3) == channels
    if kinds == ['scans', 'colour']:
        assert choice.changes['train_dataloader.dataset.value_range'] == (0, 4095)


def test_bands_that_no_setting_reads_are_refused_with_their_numbers(tmp_path):
    """A run would end after its first epoch; what the message offers is taken."""
    for kind in ('bands', 'colour', 'gray'):
        write(tmp_path / kind, kind)
    with pytest.raises(ValueError, match='no number of channels reads all') as caught:
        choose_for_images(RECIPE, str(tmp_path), {})
    words = str(caught.value)
    assert 'of 48 images looked at 16 have 1 band, 16 have 3 bands, 16 have 13 bands: no number of channels' in words
    offers = re.findall(r'--cfg-options (.*?)(?:;|$)', words)
    for offer, channels in zip(offers, (1, 3), strict=True):
        options = {name: ast.literal_eval(value) for name, value in (word.split('=') for word in offer.split())}
        assert choose_for_images(RECIPE, str(tmp_path), options).value.partition(',')[0] == str(channels)


def test_a_few_files_of_other_bands_are_named_beforehand(tmp_path):
    write(tmp_path, 'bands')
    Image.new('RGB', (32, 32)).save(tmp_path / 'a' / 'preview.jpg')
    choice = choose_for_images(RECIPE, str(tmp_path), {})
    assert choice.changes['train_dataloader.dataset.channels'] == 13 and '16 of 17 images' in choice.reason
    notes = [note for _, note in ImageFiles(str(tmp_path), CROPS, channels=13).file_notes]
    (note,) = (note for note in notes if 'other bands' in note)
    assert '1 of 17 files looked at have other bands than channels=13 and are left out (1 of 3 bands, 16 of 13' in note
    assert note.endswith('; set train_dataloader.dataset.channels=[0,1,2] for the first that all of them have, or keep '
                         'each kind in a folder of its own')  # fmt: skip


@pytest.mark.parametrize('kind', ['bands', 'floats', 'gray'])
def test_every_image_is_read_once(tmp_path, monkeypatch, kind):
    """For channels, range, mean and deviation together; only the speed is measured on further readings."""
    write(tmp_path / 'data', kind)
    opened = Counter()
    read = ImageFiles.read_bytes
    monkeypatch.setattr(ImageFiles, 'read_bytes', lambda images, row: opened.update([row]) or read(images, row))
    found = {}
    monkeypatch.setattr(
        'mocox.auto.measure', lambda *args: found.update(opened) or SimpleNamespace(images_per_second=9)
    )
    plan_run(str(tmp_path / 'data'), tmp_path / 'auto.py', {}, 0, {})
    assert found == dict.fromkeys(range(16), 1)
    config = Config.fromfile(tmp_path / 'auto.py')
    assert ('auto_range' in config.train_dataloader.dataset) == (kind == 'floats')


def test_dicoms_and_transparency(tmp_path):
    for name in ('CT_small.dcm', 'MR_small.dcm', 'MR_small_RLE.dcm'):
        path = Path(get_testdata_file(name, download=False))
        (tmp_path / name).write_bytes(path.read_bytes())
    choice = choose_for_images(RECIPE, str(tmp_path), {})
    assert choice.changes['train_dataloader.dataset.channels'] == 1
    Image.new('RGBA', (32, 32)).save(tmp_path / 'a.png')
    assert choose_for_images(RECIPE, str(tmp_path), {}).value.startswith('3')


def test_errors_name_no_option_of_another_command(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'no image')
    for data in (tmp_path, tmp_path / 'nowhere'):
        with pytest.raises((OSError, ValueError)) as caught:
            choose_for_images(RECIPE, str(data), {})
        assert str(data) in str(caught.value) and '--data-root' not in str(caught.value)
