"""The pictures of tools/visualize.py, from real files to real files."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mocox.registry import MODELS
from mocox.visualize.sheets import classes_of, pick_images, spread
from tests.support.tiny_run import run_tool, write_run


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The tiny run's images, once flat and once in two class folders, and a checkpoint."""
    folder = tmp_path_factory.mktemp('pictures')
    config = Config.fromfile(write_run(folder))
    for index, path in enumerate(sorted((folder / 'images').iterdir())):
        target = folder / 'classes' / ('cat', 'dog')[index % 2] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    model = MODELS.build(dict(config.model, data_preprocessor=config.data_preprocessor))
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=config.pretty_text)), folder / 'model.pth')
    return folder


def draw(command: str, out, *arguments: object) -> np.ndarray:
    run_tool('visualize.py', command, *arguments, '--out', out)
    with Image.open(out) as picture:
        assert picture.format == 'PNG'
        return np.asarray(picture.convert('RGB'))


def test_views_are_those_of_the_older_tool(folder, tmp_path, capsys):
    picture = draw('views', tmp_path / 'views.png', folder / 'tiny.py', '--num', 5)
    assert '5 images and their views' in capsys.readouterr().out
    run_tool('browse_views.py', folder / 'tiny.py', '--num', 5, '--out', tmp_path / 'old.png')
    np.testing.assert_array_equal(picture, np.asarray(Image.open(tmp_path / 'old.png').convert('RGB')))


def test_attention_has_a_column_for_every_head(folder, tmp_path, capsys):
    one = draw('attention', tmp_path / 'a.png', folder / 'model.pth', '--images', folder / 'images', '--num', 1)
    assert '1 images, 4 heads' in capsys.readouterr().out
    side = 160 + 6  # magnified to 160 px, and a gap; image, mean and four heads, between two margins
    assert one.shape[1] == 6 * side + 12
    two = draw(
        'attention', tmp_path / 'b.png', folder / 'model.pth', '--images', *sorted((folder / 'images').iterdir())[:2]
    )
    assert two.size > one.size


def test_neighbours_start_with_the_query(folder, tmp_path, capsys):
    query = folder / 'images' / '03.png'
    settings = ('--folder', folder / 'images', '--num-results', 3, '--cache-dir', tmp_path)
    one = draw('neighbours', tmp_path / 'a.png', folder / 'model.pth', *settings, '--queries', query)
    assert '1 images and their neighbours' in capsys.readouterr().out
    assert one.shape[1] == 4 * (96 + 6) + 12
    draw('neighbours', tmp_path / 'b.png', folder / 'model.pth', *settings, '--num', 2)
    assert '2 images and their neighbours' in capsys.readouterr().out


def test_a_map_has_a_colour_for_every_class_folder(folder, tmp_path, capsys):
    picture = draw('embedding', tmp_path / 'a.png', folder / 'model.pth', '--folder', folder / 'classes')
    assert '24 images of 2 classes' in capsys.readouterr().out
    blue, orange = (0.75 * np.array(color) + 0.25 * 255 for color in ((0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00)))
    assert all((np.abs(picture - color).max(axis=2) < 3).sum() > 200 for color in (blue, orange))
    draw('embedding', tmp_path / 'b.png', folder / 'model.pth', '--folder', folder / 'images', '--num', 10)
    assert '10 images of 0 classes' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('command', 'words'),
    [
        (('attention', 'MODEL', '--images', '/nowhere'), 'there is no image or folder /nowhere'),
        (('embedding', '/nowhere.pth', '--folder', 'IMAGES'), 'no checkpoint at /nowhere.pth'),
        (('embedding', 'MODEL', '--folder', 'IMAGES', '--num', 0), 'at least 1, got 0'),
        (('neighbours', 'MODEL', '--folder', 'IMAGES', '--num-results', 99), 'at most 23 results'),
    ],
)
def test_a_wrong_argument_is_named(folder, tmp_path, capsys, command, words):
    names = dict(MODEL=folder / 'model.pth', IMAGES=folder / 'images')
    arguments = [names.get(argument, argument) for argument in command]
    with pytest.raises(SystemExit):
        run_tool('visualize.py', *arguments, '--out', tmp_path / 'out.png')
    assert words in capsys.readouterr().err
    assert not (tmp_path / 'out.png').exists()


def test_images_are_picked_evenly(folder):
    assert spread(10, 4) == [0, 3, 6, 9]
    assert spread(3, 10) == [0, 1, 2]
    picked = pick_images([folder / 'images', folder / 'tiny.py'], 3)
    assert [path.rsplit('/')[-1] for path in picked] == ['00.png', '11.png', '23.png', 'tiny.py']


def test_classes_are_folders_that_tell_something():
    assert classes_of(['r/a/1', 'r/b/x/2', 'r/a/3'], 'r') == ['a', 'b', 'a']
    assert classes_of(['r/a/1', 'r/a/2'], 'r') is None  # one
    assert classes_of(['r/a/1', 'r/2', 'r/a/3'], 'r') is None  # an image beside the folders
    assert classes_of([f'r/{i}/1' for i in range(9)], 'r') is None  # one image in each
    assert classes_of([f'r/{i % 40}/{i}' for i in range(99)], 'r') is None  # more than can be told apart
