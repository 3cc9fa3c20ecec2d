"""The sheet of images and views, from a real config and real files."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mocox.visualize.contact_sheet import augmented_views, draw_sheet

VIEW = dict(solarize_prob=1.0)


def make_config(folder: Path) -> Config:
    for number in range(5):
        Image.new('RGB', (40, 20 + number), (10 * number, 200, 0)).save(folder / f'{number}.png')
    crops = dict(type='RandomResizedCrops', size=16, num_views=2)
    dataset = dict(type='ImageFiles', data_root=str(folder), crops=crops)
    views = dict(type='ViewsPreprocessor', mean=[1.0, 2, 3], std=[4.0, 5, 6], views=[VIEW, VIEW])
    return Config(dict(train_dataloader=dict(dataset=dataset), data_preprocessor=views, model=dict(type='MoCoV3')))


def test_views_are_those_of_training(tmp_path):
    """Flat images, always solarized: 200 becomes 55, and normalisation is undone."""
    rows = augmented_views(make_config(tmp_path), num_images=3)
    assert [row[0][0, 0].tolist() for row in rows] == [[0, 200, 0], [20, 200, 0], [40, 200, 0]]  # first, middle, last
    for row in rows:
        assert len(row) == 3
        for view in row[1:]:
            assert view.shape == (16, 16, 3)
            assert (view == [row[0][0, 0, 0], 55, 0]).all()


def test_no_more_rows_than_images(tmp_path):
    assert len(augmented_views(make_config(tmp_path), num_images=50)) == 5
    with pytest.raises(ValueError, match='at least 1, got 0'):
        augmented_views(make_config(tmp_path), num_images=0)


def test_config_without_views(tmp_path):
    config = make_config(tmp_path)
    config.pop('data_preprocessor')
    with pytest.raises(ValueError, match='no data_preprocessor'):
        augmented_views(config, num_images=1)


@pytest.mark.parametrize('side', [16, 300])
def test_sheet_shows_every_image(side):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    rows = [[np.full((side, side, 3), colour, np.uint8) for colour in colours] for _ in range(7)]
    pixels = np.asarray(draw_sheet(rows))
    tile = min(max(side, 96), 224)
    for colour in colours:
        assert (pixels == colour).all(-1).sum() == 7 * tile**2


def test_tool(tmp_path, monkeypatch, capsys):
    """One command from a config to a PNG; a mistake ends with one line."""
    (tmp_path / 'images').mkdir()
    config = make_config(tmp_path / 'images')
    config.dump(tmp_path / 'config.py')
    command = ['browse_views.py', str(tmp_path / 'config.py'), '--num', '2', '--out', str(tmp_path / 'new/sheet.png')]
    monkeypatch.setattr(sys, 'argv', command)
    runpy.run_path('tools/browse_views.py', run_name='__main__')
    assert Image.open(tmp_path / 'new/sheet.png').width > 3 * 96
    monkeypatch.setattr(sys, 'argv', [*command, '--data-root', str(tmp_path / 'nowhere')])
    with pytest.raises(SystemExit, match='1'):
        runpy.run_path('tools/browse_views.py', run_name='__main__')
    assert 'nowhere' in capsys.readouterr().err
