"""Every name in every config exists, every argument is one that its component takes, and every model can be built."""

import inspect

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mocox.registry import MODELS
from mocox.run.components import REGISTRIES, TAKEN_BY_MMENGINE, check_components, resolve, typed
from tests.test_configs.shipped import LEAVES, build, build_on_meta, load, model_config

# Top-level settings that are not arguments of the Runner, but are read by it, our tools or another setting.
SETTINGS = {'auto_scale_lr', 'model_wrapper_cfg', 'vis_backends'}


@pytest.mark.parametrize('name', LEAVES)
def test_every_type_resolves_and_takes_its_arguments(name):
    seen = 0
    for where, owner, scope, cfg in typed(load(name).to_dict()):
        component = resolve(owner, scope, cfg['type'])
        assert component is not None, f"{where}: '{cfg['type']}' is in no {REGISTRIES[owner].name} registry"
        arguments = set(cfg) - {'type', '_scope_'} - TAKEN_BY_MMENGINE.get(owner, set())
        try:
            inspect.signature(component).bind_partial(**dict.fromkeys(arguments))
        except TypeError as error:
            pytest.fail(f'{where}: {cfg["type"]} {error}')
        seen += 1
    assert seen > 10
    check_components(load(name))


@pytest.mark.parametrize('name', LEAVES)
def test_top_level_and_dataloader_keys_are_known(name):
    cfg = load(name)
    unknown = set(cfg) - set(inspect.signature(Runner).parameters) - SETTINGS
    assert not unknown, f'{name}: nothing reads {sorted(unknown)}'
    loader_keys = set(inspect.signature(DataLoader).parameters) | {'num_batch_per_epoch'}
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        unknown = set(cfg.get(loader) or {}) - loader_keys
        assert not unknown, f'{name}: {loader} does not take {sorted(unknown)}'


@pytest.mark.parametrize('name', LEAVES)
def test_model_builds_on_the_meta_device(name):
    model = build(name)
    assert all(p.is_meta for p in model.parameters())
    assert type(model).__name__ == load(name).model.type.split('.')[-1]


@pytest.mark.parametrize(
    'key',
    [
        'backbone.patchsize',
        'neck.hidden_channels',
        'head.temprature',
        'head.predictor.bias',
        'head.loss.weigth',
        'data_preprocessor.view',
        'data_preprocessor.views.0.blur_probability',
        'data_preprocessor.views.0.color_jitter.colour',
        'momentum',
    ],
)
def test_a_typo_in_the_model_is_a_type_error(key):
    cfg = Config(dict(model=model_config(load('configs/mocov3/vit-small.py'))))
    cfg.merge_from_dict({f'model.{key}': 1})
    with pytest.raises(TypeError, match=key.split('.')[-1]):
        build_on_meta(cfg.model)


@pytest.mark.parametrize('key', ['patchsize', 'colour'])
def test_a_typo_in_another_librarys_component_is_a_type_error(key):
    cfg = Config(dict(model=model_config(load('configs/mocov3/resnet50_100e.py'))))
    cfg.merge_from_dict({f'model.backbone.{key}': 1})
    with pytest.raises(TypeError, match=key):
        build_on_meta(cfg.model)


@pytest.mark.parametrize(('owner', 'key'), [('crops', 'ratios'), ('crops', 'num_view'), ('dataset', 'data_rot')])
def test_a_typo_in_the_data_is_a_type_error(owner, key, tmp_path):
    dataset = load('configs/mocov3/vit-small.py').train_dataloader.dataset.to_dict()
    dataset['data_root'] = str(tmp_path)
    cfg = dataset if owner == 'dataset' else dataset[owner]
    cfg[key] = 1
    with DefaultScope.overwrite_default_scope('mocox'), pytest.raises(TypeError, match=key):
        REGISTRIES[owner].build(cfg)


def test_an_unknown_component_is_named_with_its_scope():
    cfg = dict(type='MoCoV33')
    with DefaultScope.overwrite_default_scope('mocox'), pytest.raises(KeyError, match=r'MoCoV33.*mocox'):
        MODELS.build(cfg)
