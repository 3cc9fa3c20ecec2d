"""What the doctor says of images of more than 8 bits and of other channels, with lines to copy."""

import ast

import numpy as np
import pytest
import tifffile
import torch
from mmengine.config import Config

from mocox.doctor import examine
from tests.support.tiny_run import CONFIG, ROOT


def config_of(folder, **settings) -> Config:
    path = folder / 'run.py'
    path.write_text(CONFIG.format(root=ROOT / 'configs', data=folder))
    config = Config.fromfile(path)
    config.train_dataloader.dataset.update(settings)
    return config


def test_floating_point_gets_a_range_to_copy(tmp_path):
    """The one that is used without it; not that of a few numbers far away."""
    values = np.stack([np.linspace(-3, 5 + i, 40 * 40, dtype=np.float32).reshape(40, 40) for i in range(3)])
    values[0, 0, 0], values[1, 0, 0] = 3.4e38, -3.4e38
    for i, image in enumerate(values):
        tifffile.imwrite(tmp_path / f'{i}.tif', image)
    everything = examine(config_of(tmp_path), seconds=0).findings
    (found,) = (finding for finding in everything if 'say no range' in finding.title)
    low, high = np.percentile(values.astype(np.float64), [0.1, 99.9])
    assert -3 <= low < high <= 7
    setting, _, pair = found.fix.partition('=')
    assert (found.level, setting) == ('note', 'train_dataloader.dataset.value_range')
    assert ast.literal_eval(pair.strip('"')) == pytest.approx((low, high), abs=0.005)
    (found,) = (finding for finding in everything if 'more than 8 bits' in finding.title)
    assert '100% of the range' in found.title


def test_images_that_say_a_range_are_not_put_in_that_of_the_others(tmp_path):
    """As in a folder of CT with dose maps of 32 bits: a pair for both would make one of them black."""
    for i in range(3):
        tifffile.imwrite(tmp_path / f'{i}.tif', np.full((40, 40), 1000 * i, np.uint16))
    tifffile.imwrite(tmp_path / '3.tif', np.full((40, 40), 1_254_000, np.uint32))
    everything = examine(config_of(tmp_path), seconds=0).findings
    (found,) = (finding for finding in everything if 'say no range' in finding.title)
    assert 'the other 3 of more than 8 bits keep the ranges that they say' in found.title
    assert 'value_range' not in found.fix
    (found,) = (finding for finding in everything if 'have more than 8 bits' in finding.title)
    assert found.level == 'warning' and found.title.startswith('3 images')
    assert 'numbers from 0 to 2000, 3% of the range 0 to 65535' in found.title


def test_dark_images_get_a_range_to_copy(tmp_path):
    for i in range(3):
        tifffile.imwrite(tmp_path / f'{i}.tif', np.full((40, 40), 1000 * i, np.uint16))
    everything = examine(config_of(tmp_path), seconds=0).findings
    (found,) = (finding for finding in everything if 'more than 8 bits' in finding.title)
    assert (found.level, found.fix) == ('warning', 'train_dataloader.dataset.value_range="(0,2047)"')
    assert 'numbers from 0 to 2000, 3% of the range 0 to 65535' in found.title


def test_channels_that_a_run_is_refused_for_are_a_problem(tmp_path):
    for i in range(3):
        values = np.full((40, 40, 5), 50 * i, np.uint8)
        tifffile.imwrite(tmp_path / f'{i}.tif', values, planarconfig='contig', photometric='minisblack')
    diagnosis = examine(config_of(tmp_path, channels=5), seconds=0)
    (found,) = (finding for finding in diagnosis.findings if finding.check == 'channels')
    assert diagnosis.exit_code == 1
    assert found.title == 'the images have 5 channels and the backbone 3'
    assert found.fix.startswith('set model.backbone.in_channels=5')


@pytest.mark.parametrize('extra', [True, False])
def test_many_bands_get_words_of_ours(tmp_path, monkeypatch, caplog, extra):
    """Not Pillow's error line; and the augmentation that a run is refused for is a problem without measuring."""
    for i in range(3):
        values = np.random.default_rng(i).integers(0, 10000, (40, 40, 13), np.uint16)
        tifffile.imwrite(tmp_path / f'{i}.tif', values, planarconfig='contig', photometric='minisblack')
    config = config_of(tmp_path, channels=13, value_range=(0, 10000))
    config.model.backbone.in_channels = 13
    config.data_preprocessor.update(mean=[100.0] * 13, std=[50.0] * 13)
    if extra:
        diagnosis = examine(config, seconds=0)
        (found,) = (finding for finding in diagnosis.findings if finding.check == 'channels')
        assert found.title == 'color_jitter and grayscale need red, green and blue, and mean has 13 channels'
        assert 'mocov3/vit-small_multispectral.py' in found.fix and diagnosis.exit_code == 1
    else:
        monkeypatch.setitem(__import__('sys').modules, 'tifffile', None)
        with pytest.raises(ValueError, match=r'pip install "mocox\[scientific\]"'):
            examine(config, seconds=0)
    assert 'ore samples per pixel' not in caplog.text


def test_no_mean_and_std_are_offered_beside_another_range(tmp_path):
    """Copied together they would not fit each other."""
    for i in range(3):
        tifffile.imwrite(tmp_path / f'{i}.tif', np.full((40, 40), 1000 * i, np.uint16))
    fixes = [found.fix for found in examine(config_of(tmp_path, channels=1), seconds=0).findings]
    assert 'train_dataloader.dataset.value_range="(0,2047)"' in fixes
    assert not any('data_preprocessor.mean=' in fix for fix in fixes)
    told = examine(config_of(tmp_path, channels=1, value_range=(0, 2047)), seconds=0).findings
    assert any('data_preprocessor.mean="[124.6]"' in found.fix for found in told)


@pytest.mark.parametrize('depth', [8, 16, 32])
def test_mean_and_std_of_every_channel(tmp_path, depth):
    values = np.random.default_rng(0).integers(0, 10000, (4, 40, 40, 5), dtype=np.uint16)
    for i, image in enumerate(values):
        tifffile.imwrite(tmp_path / f'{i}.tif', image, planarconfig='contig', photometric='minisblack')
    config = config_of(tmp_path, channels=5, value_range=(0, 10000), depth=depth)
    diagnosis = examine(config, seconds=0)
    levels = torch.from_numpy(values.astype(np.float64)) * 255 / 10000
    assert diagnosis.sample.mean == pytest.approx(levels.mean((0, 1, 2)).tolist(), abs=0.05)
    assert diagnosis.sample.std == pytest.approx(levels.std((0, 1, 2), correction=0).tolist(), abs=0.05)
    (found,) = (finding for finding in diagnosis.findings if finding.check == 'normalisation')
    line = ','.join(f'{value:.1f}' for value in diagnosis.sample.mean)
    assert f'data_preprocessor.mean="[{line}]"' in found.fix
