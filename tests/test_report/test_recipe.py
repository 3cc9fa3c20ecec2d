import pytest
from mmengine.config import Config

from mocox.recipe import Recipe
from mocox.report.recipe import compare, published_rows, settings_of
from tests.test_configs.shipped import load


def test_a_recipe_equals_its_own_row():
    config = dict(load('configs/mocov3/vit-small.py').to_dict(), recipe_name='vit-small')
    found = compare(config, 8)
    assert (found.name, found.exact, found.differences) == ('mocov3_vit-small', True, 0)
    assert found.result == 'Top 1 Accuracy 73.2, Linear evaluation on ImageNet-1k (official code, batch 4096)'


def test_what_differs_is_named():
    config = dict(load('configs/mocov3/vit-small.py').to_dict(), recipe_name='vit-small')
    found = compare(config, 1)  # one GPU of eight
    differing = {name: (ours, paper) for name, ours, paper, same in found.rows if not same}
    assert differing == {'batch': ('128', '1,024'), 'peak learning rate': ('7.5e-05', '0.0006')}


@pytest.mark.parametrize(
    ('name', 'closest'),
    [
        ('configs/mocov3/vit-small_custom.py', 'mocov3_vit-small'),
        ('configs/mocov3/vit-tiny_digits.py', 'mocov3_vit-small'),
        ('configs/mocov2/resnet18_digits.py', 'mocov2_resnet50_200e'),
        ('configs/mocov2/resnet50_symmetric_100e.py', 'mocov2_resnet50_symmetric_100e'),
    ],
)
def test_another_recipe_is_laid_beside_the_closest(name, closest):
    found = compare(load(name).to_dict(), 1)
    assert found.name == closest and not found.exact and found.differences


def test_the_same_batch_on_one_gpu_is_the_same_recipe():
    found = compare(load('configs/mocov2/resnet50_200e_1gpu.py').to_dict(), 1)
    assert (found.name, found.exact, found.differences) == ('mocov2_resnet50_200e', False, 0)


def test_only_pretraining_is_compared():
    assert compare(load('configs/mocov3/vit-small_linear.py').to_dict(), 8) is None
    assert all(row['settings']['method'] for row in published_rows())
    assert {row['settings']['method'] for row in published_rows()} >= {
        'MoCo v1',
        'MoCo v2',
        'MoCo v3',
        'MoBY',
        'Fast-MoCo',
    }


def sorted_keys(value):
    if isinstance(value, dict):
        return {key: sorted_keys(value[key]) for key in sorted(value, key=str)}
    return [sorted_keys(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    'name', ['mocov3/vit-tiny_digits', 'mocov3/resnet18_fashion', 'moby/deit-small', 'fast_moco/resnet50_100e']
)
def test_settings_do_not_depend_on_the_order_of_keys(name):
    """MMEngine sorts them in the config that it writes into the work dir."""
    config = load(f'configs/{name}.py').to_dict()
    assert settings_of(Recipe(sorted_keys(config))) == settings_of(Recipe(config))


def test_settings_are_those_of_the_paper():
    found = settings_of(Recipe(load('configs/mocov2/resnet50_200e.py').to_dict(), 8))
    assert found['method'] == 'MoCo v2' and found['queue'] == '65,536 keys'
    assert (found['temperature'], found['key momentum'], found['epochs']) == ('0.2', '0.999', '200')
    assert found['peak learning rate'] == '0.03'
    assert found['projector'] == '2048-2048-128'
    found = settings_of(Recipe(load('configs/mocov3/vit-small.py').to_dict(), 8))
    assert found['projector'] == '384-4096-4096-256' and found['predictor'] == '256-4096-256'
    assert found['key momentum'] == '0.99 to 1' and found['lr per 256 images'] == '0.00015'
    assert 'solarize p 0.2' in found['view 2'] and 'solarize' not in found['view 1']


def test_a_config_of_anything_is_survived():
    assert settings_of(Recipe(Config().to_dict()))['method'] is None
    assert compare(dict(model=dict(type='Mine')), 1) is None
