"""What the doctor says of images of more than 8 bits and of other channels, with lines to copy."""

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
    for i in range(3):
        values = np.linspace(-3, 5 + i, 40 * 40, dtype=np.float32).reshape(40, 40)
        tifffile.imwrite(tmp_path / f'{i}.tif', values)
    everything = examine(config_of(tmp_path), seconds=0).findings
    (found,) = (finding for finding in everything if 'say no range' in finding.title)
    assert (found.level, found.fix) == ('note', 'train_dataloader.dataset.value_range="(-3,7)"')


def test_dark_images_get_a_range_to_copy(tmp_path):
    for i in range(3):
        tifffile.imwrite(tmp_path / f'{i}.tif', np.full((40, 40), 1000 * i, np.uint16))
    everything = examine(config_of(tmp_path), seconds=0).findings
    (found,) = (finding for finding in everything if 'more than 8 bits' in finding.title)
    assert (found.level, found.fix) == ('warning', 'train_dataloader.dataset.value_range="(0,2047)"')
    assert 'numbers from 0 to 2000, 3% of the range 0 to 65535' in found.title


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
