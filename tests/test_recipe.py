"""A config is read as the run would read it: with the defaults of the classes that it names."""

import inspect
from math import exp, log, log1p

import pytest
from mmengine.registry import DefaultScope

from mocox.models.algorithms import MomentumContrast
from mocox.recipe import Recipe, argument
from mocox.registry import MODELS
from tests.test_configs.shipped import PRETRAINING, load

HEAD = dict(type='ContrastiveHead', temperature=0.2)
WEIGHTED = dict(HEAD, loss=dict(type='InfoNCELoss', loss_weight=0.5))


def read(kind: str, batch_size: int = 8, processes: int = 1, head: dict = HEAD, **model) -> Recipe:
    config = dict(model=dict(type=kind, head=head, **model), train_dataloader=dict(batch_size=batch_size))
    return Recipe(config, processes)


def test_levels_of_the_loss():
    # The published table: batch 4096 and queue 65536 at T 0.2; the floor with negatives at -1 / (keys - 1).
    chance, floor = read('mocox.MoCoV3', 512, 8).levels
    assert (round(chance, 2), round(floor, 1)) == (6.65, 2.7)
    chance, floor = read('MoCo', 256).levels
    assert (round(chance, 2), round(floor, 2)) == (11.09, 6.09)
    assert read('LinearProbe').levels is None
    assert read('mmpretrain.MoCoV3').levels is None  # another loss, whatever its name
    assert read('MoCoV3', 1).levels is None  # a single key: nothing to tell apart


def test_levels_of_every_algorithm_in_closed_form():
    """Chance is the logarithm of the keys; at the floor, keys stand on a simplex with cosine -1 / (keys - 1)."""
    floor = lambda keys: log1p((keys - 1) * exp(-(1 + 1 / (keys - 1)) / 0.2))  # noqa: E731
    for kind, model, factor, keys in (
        ('MoCoV3', {}, 4 * 0.2, 16),
        ('FastMoCo', {}, 1, 16),
        ('MoCo', dict(queue_len=32), 1, 33),
        ('MoBY', dict(queue_len=32), 2, 33),
        ('MoBY', {}, 2, 4097),
    ):
        for head, weight in ((HEAD, 1), (WEIGHTED, 0.5)):
            levels = read(kind, 8, 2, head, **model).levels
            assert levels == pytest.approx((weight * factor * log(keys), weight * factor * floor(keys)), rel=1e-12), (
                kind
            )


@pytest.mark.parametrize('name', ['mocov3/vit-tiny_digits', 'mocov2/resnet18_digits'])
def test_levels_of_a_config_are_those_of_its_model(name):
    config = load(f'configs/{name}.py')
    with DefaultScope.overwrite_default_scope('mocox'):
        model = MODELS.build(config.model)
    if hasattr(model, 'queue'):
        model.queue.filled.fill_(len(model.queue))
    recipe = Recipe(config)
    assert recipe.levels == (model.chance_level(recipe.batch_size), model.floor_level(recipe.batch_size))


@pytest.mark.parametrize('name', PRETRAINING)
def test_every_shipped_recipe_has_its_levels(name):
    recipe = Recipe(load(name), 8)
    chance, floor = recipe.levels
    assert chance > floor
    assert issubclass(recipe.algorithm, MomentumContrast) and recipe.momentum is not None


def test_defaults_are_those_of_the_class():
    assert (read('MoCo').momentum, read('FastMoCo').momentum, read('MoBY').momentum) == (0.999, 0.99, 0.99)
    assert (read('MoCo').queue_len, read('MoBY').queue_len, read('MoCoV3').queue_len) == (65536, 4096, None)
    assert read('MoCoV3', head=dict(type='ContrastiveHead')).temperature == 1.0
    assert read('MoCoV3', base_momentum=0.5).momentum == 0.5
    assert argument(dict(type='MoCoViT'), 'stop_grad_conv1') is True
    assert argument(dict(type='MoCoViT'), 'arch') == inspect.signature(MODELS.get('MoCoViT')).parameters['arch'].default
    assert argument(dict(type='Nobodys'), 'width') is None


def test_a_component_is_looked_up_and_never_imported():
    """A stranger's config may name anything; a registry would import it."""
    assert read('antigravity.MoCoV3').algorithm is None
    assert Recipe(dict(model=dict(type='antigravity.fly'))).levels is None


def test_a_preprocessor_is_the_models_or_stands_beside_it():
    own, other = dict(type='ViewsPreprocessor', views=[dict()]), dict(type='LabelledPreprocessor')
    assert Recipe(dict(data_preprocessor=other)).preprocessor == other
    assert Recipe(dict(model=dict(data_preprocessor=own), data_preprocessor=other)).preprocessor == own
    assert Recipe({}).preprocessor == {} and Recipe({}).views == []


@pytest.mark.parametrize('config', [{}, dict(model=None), dict(model='text', train_dataloader=[]), dict(model=[1])])
def test_a_config_of_anything_is_survived(config):
    recipe = Recipe(config)
    assert (recipe.method, recipe.batch_size, recipe.epochs, recipe.levels, recipe.peak_lr) == ('', 1, None, None, None)
