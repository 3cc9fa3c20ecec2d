"""``mocox configs``, and recipes by their names in any folder."""

import pytest
from mmengine.config import Config

from mocox.commands.configs import copy_recipe, list_recipes
from mocox.configs import config_folder, find_config, open_config, shipped_configs


def test_list_names_every_recipe_with_a_sentence():
    recipes = shipped_configs()
    files = {path.relative_to(config_folder()).as_posix() for path in config_folder().glob('mocov3/*.py')}
    assert files <= set(recipes)
    assert not [name for name, sentence in recipes.items() if not sentence or '_base_' in name]
    assert list_recipes(['digits', 'MoCo v2']).split()[0] == 'mocov2/resnet18_digits.py'
    with pytest.raises(ValueError, match="no recipe has 'nothing'"):
        list_recipes(['nothing'])


COPIED = ['mocov3/vit-small_custom', 'benchmarks/detection/faster-rcnn_resnet50-c4_voc0712.py']


@pytest.mark.parametrize('name', COPIED)
def test_a_copy_is_the_recipe(name, tmp_path):
    copy_recipe(name, tmp_path / 'new' / 'mine.py')
    copied, original = Config.fromfile(tmp_path / 'new' / 'mine.py'), open_config(name)
    assert copied.to_dict() == original.to_dict()
    with pytest.raises(FileExistsError, match='another name'):
        copy_recipe(name, tmp_path / 'new' / 'mine.py')


@pytest.mark.parametrize('name', ['mocov3/vit-small.py', 'mocov3/vit-small', 'configs/mocov3/vit-small.py'])
def test_a_recipe_is_found_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_config(name).model.backbone.arch == 'small'


def test_a_file_of_that_name_goes_before(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mocov3').mkdir()
    (tmp_path / 'mocov3' / 'vit-small.py').write_text('mine = True')
    assert open_config('mocov3/vit-small.py').mine


@pytest.mark.parametrize(
    ('name', 'nearest'),
    [('mocov3/vit-smal.py', 'mocov3/vit-small.py'), ('vit-huge_fsdp.py', 'mocov3/vit-huge_fsdp.py')],
)
def test_a_misspelt_recipe_is_told_the_nearest(name, nearest):
    with pytest.raises(FileNotFoundError, match=f'there is no config file {name}; did you mean {nearest}'):
        find_config(name)


def test_no_file_outside_of_the_folder_is_a_recipe():
    with pytest.raises(FileNotFoundError):
        find_config('mocov3/../../setup.py')
