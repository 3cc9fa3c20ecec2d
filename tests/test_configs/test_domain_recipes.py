"""The recipes for bands, gray images and tissue: their channels, and a few steps of each on files of its kind."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from mocox.checkpoint import read
from mocox.recipe import Recipe
from mocox.registry import MODELS
from mocox.run.options import prepare_config
from tests.support.tiny_run import ROOT, run_tool
from tests.test_configs.shipped import load

BANDS = dict(channels=13, value_range=(0, 10000))
# Sentinel-2's bands in SSL4EO-S12's statistics of reflectance times 10,000: the first, the fourth, the cirrus band.
NORMS = {
    'mocov3/vit-small_multispectral': (13, BANDS, {0: (1605.57504906, 786.78685367), 10: (22.10351321, 51.15431158)}),
    'mocov2/resnet50_multispectral': (13, BANDS, {3: (1363.52445545, 1138.84957046), 9: (830.06605044, 577.31607053)}),
    'mocov3/vit-small_grayscale': (1, dict(channels=1), {}),
    'mocov3/vit-small_pathology': (3, {}, {0: (7032.2989, 2171.6536)}),  # times 10,000 too
}
# The same recipe for 16 images of 16 pixels.
SMALL = {
    'mocov3': """
arch = dict(_delete_=True, embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
model = dict(backbone=dict(arch=arch, img_size=16, patch_size=4), neck=dict(in_channels=32, hid_channels=32),
             head=dict(predictor=dict(hid_channels=32)))
param_scheduler = dict(warmup_epochs=0)
""",
    'mocov2': """
model = dict(backbone=dict(depth=18, base_channels=8, stem_channels=8, norm_cfg=dict(group_size=4)),
             neck=dict(in_channels=64, hid_channels=32), queue_len=32)
""",
}
SHORT = """
train_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False, pin_memory=False,
                        dataset=dict(crops=dict(size=16)))
train_cfg = dict(max_epochs=2)
default_hooks = dict(report=dict(num_images=8), checkpoint=dict(interval=1))
"""


@pytest.mark.parametrize('name', NORMS)
def test_channels_and_normalisation(name):
    channels, pixels, known = NORMS[name]
    recipe = Recipe(load(f'configs/{name}.py'))
    assert {key: recipe.dataset.get(key) for key in pixels} == pixels
    assert recipe.backbone.get('in_channels', 3) == channels
    mean, std = recipe.preprocessor['mean'], recipe.preprocessor['std']
    assert len(mean) == len(std) == channels
    for band, numbers in known.items():
        scaled = [255 / 10000 * number for number in numbers]
        assert [mean[band], std[band]] == pytest.approx(scaled, abs=0.01)


def test_the_smallest_vit_keeps_the_bands():
    config = prepare_config('mocov3/vit-small_multispectral.py', arch='tiny', image_size=32)
    (features,) = MODELS.build(config.model.backbone)(torch.zeros(1, 13, 32, 32))
    assert features.shape[-1] == config.model.neck.in_channels == 192  # of ViT-Ti, arXiv 2012.12877, table 1


def write_images(folder: Path, name: str) -> None:
    """As the domain has them: TIFFs of 13 bands, 16-bit PNGs, RGB."""
    rng = np.random.default_rng(0)
    for i in range(16):
        values = rng.random((4, 4, NORMS[name][0])).repeat(6, 0).repeat(6, 1)
        if values.shape[2] == 13:
            tifffile.imwrite(folder / f'{i}.tif', (5000 * values).astype(np.uint16), planarconfig='contig')
        elif values.shape[2] == 1:
            Image.fromarray((65535 * values[:, :, 0]).astype(np.uint16)).save(folder / f'{i}.png')
        else:
            Image.fromarray((255 * values).astype(np.uint8)).save(folder / f'{i}.png')


@pytest.mark.parametrize('name', NORMS)
def test_a_few_steps(name, tmp_path, capsys):
    """The recipe on files of its kind, of which all are read; what is trained keeps the setting and moves."""
    data, work = tmp_path / 'data', tmp_path / 'work'
    data.mkdir()
    write_images(data, name)
    config, small = ROOT / 'configs' / f'{name}.py', tmp_path / 'small.py'
    small.write_text(f"_base_ = ['{config}']\n{SMALL[name.partition('/')[0]]}{SHORT}")
    run_tool('train.py', small, '--data-root', data, '--work-dir', work)
    first, last = (read(work / f'epoch_{epoch}.pth') for epoch in (1, 2))
    assert last.meta.get('pixels', {}).get('channels', 3) == NORMS[name][0]
    weights = {
        key: value
        for key, value in last.state_dict.items()
        if key.startswith('backbone.') and value.is_floating_point()
    }
    assert all(torch.isfinite(value).all() for value in weights.values())
    moved = [key for key, value in weights.items() if not torch.equal(value, first.state_dict[key])]
    assert len(moved) > len(weights) / 2
    report = (work / 'report.html').read_text()
    assert ('Shown as red, green and blue: bands 3, 2, 1' in report) == (NORMS[name][0] == 13)
    assert 'Augmented pairs' in report and 'Nearest neighbours' in report
    capsys.readouterr()
    run_tool('visualize.py', 'views', config, '--data-root', data, '--num', 4, '--out', tmp_path / 'views.png')
    words = '(bands 3, 2, 1 as red, green and blue, stretched)' if NORMS[name][0] == 13 else 'images and their views:'
    assert words in capsys.readouterr().out
