"""Each known bad combination is found in a real config that has it, and not in the config as it is shipped."""

import copy

import pytest
from mmengine.config import Config

from mocox.doctor.findings import PROBLEM
from mocox.doctor.recipe_checks import CHECKS, check_recipe
from mocox.recipe import Recipe
from tests.test_configs.shipped import PRETRAINING, load

VIT, CUSTOM, LARS = 'mocov3/vit-small.py', 'mocov3/vit-small_custom.py', 'mocov3/resnet50_100e.py'
V2, MOBY = 'mocov2/resnet50_200e.py', 'moby/deit-small.py'
IMAGENET = 1_281_167
# What is found, where, after which change, and with how many processes and images.
CASES = [
    ('temperature', VIT, {'model.head.temperature': 1.0}, 8, IMAGENET),
    ('sync_bn_with_queue', V2, {'model.backbone.norm_cfg': dict(type='SyncBN')}, 8, IMAGENET),
    ('sync_bn_with_queue', V2, {'model.backbone.norm_cfg': dict(type='BN')}, 1, IMAGENET),
    ('sync_bn_with_queue', V2, {'train_dataloader.batch_size': 63, 'auto_scale_lr.enable': True}, 1, IMAGENET),
    ('momentum_of_small_data', V2, {}, 8, 120_000),
    ('momentum_convention', VIT, {'model.base_momentum': 0.01}, 8, IMAGENET),
    ('queue_longer_than_data', V2, {'model.base_momentum': 0.99}, 8, 65_535),
    ('heads_of_vit_small', VIT, {'model.backbone.arch': dict(embed_dims=384, num_layers=12, num_heads=6,
                                                              feedforward_channels=1536)}, 8, IMAGENET),
    ('heads_of_vit_small', VIT, {'model.backbone': dict(type='mmpretrain.TIMMBackbone',
                                                         model_name='vit_small_patch16_224')}, 8, IMAGENET),
    ('float16', VIT, {'optim_wrapper.type': 'AmpOptimWrapper', 'optim_wrapper.dtype': 'float16'}, 8, IMAGENET),
    ('batch_of_v3', VIT, {'train_dataloader.batch_size': 31}, 1, 31 * 100),
    ('accumulation', VIT, {'optim_wrapper.accumulative_counts': 4}, 8, IMAGENET),
    ('fewer_images_than_a_batch', VIT, {}, 8, 1023),
    ('much_is_dropped', VIT, {}, 8, 1600),
    ('small_last_batch', VIT, {'train_dataloader.drop_last': False}, 8, IMAGENET),
    ('lr_not_scaled', V2, {}, 1, IMAGENET),
    ('lr_of_another_optimizer', LARS, {'optim_wrapper.optimizer.lr': 1.5e-4}, 16, IMAGENET),
    ('lr_of_another_optimizer', VIT, {'optim_wrapper.optimizer.lr': 0.3}, 8, IMAGENET),
    ('warmup_too_long', VIT, {'train_cfg.max_epochs': 60}, 8, IMAGENET),
    ('trained_patches', VIT, {'model.backbone.stop_grad_conv1': False}, 8, IMAGENET),
]  # fmt: skip


def plan(name: str, changes: dict, processes: int, num_images: int | None) -> Recipe:
    config = Config(copy.deepcopy(load(f'configs/{name}')._cfg_dict))
    for key, value in changes.items():
        holder, _, last = key.rpartition('.')
        target = config._cfg_dict
        for part in holder.split('.') if holder else []:
            target = target[part]
        target[last] = value
    return Recipe(config.to_dict(), processes, num_images)


@pytest.mark.parametrize(('check', 'name', 'changes', 'processes', 'images'), CASES, ids=[case[0] for case in CASES])
def test_a_bad_combination_is_found_with_reason_and_fix(check, name, changes, processes, images):
    found = {finding.check: finding for finding in check_recipe(plan(name, changes, processes, images))}
    assert check in found
    assert found[check].reason and found[check].fix
    sound = check_recipe(plan(name, {}, 16 if name == LARS else 8, IMAGENET))
    assert check not in {finding.check for finding in sound}


def test_every_check_has_a_case():
    assert {case[0] for case in CASES} == {check.__name__ for check in CHECKS}


def test_other_recipes_may_do_what_these_must_not():
    """MoBY's DeiT-S has 6 heads, a ResNet of MoCo v3 has T = 1, and BN over processes is split as published."""
    assert 'heads_of_vit_small' not in {f.check for f in check_recipe(plan(MOBY, {}, 8, IMAGENET))}
    assert 'temperature' not in {f.check for f in check_recipe(plan(LARS, {}, 16, IMAGENET))}
    eight = plan(V2, {'model.backbone.norm_cfg': dict(type='BN')}, 8, IMAGENET)
    assert 'sync_bn_with_queue' not in {f.check for f in check_recipe(eight)}
    one = plan(V2, {'train_dataloader.batch_size': 64, 'auto_scale_lr.enable': True}, 1, IMAGENET)
    assert 'sync_bn_with_queue' not in {f.check for f in check_recipe(one)}


@pytest.mark.parametrize('name', PRETRAINING)
def test_no_shipped_recipe_is_called_a_problem(name):
    """At the batch it is for, which its docstring names in another way for each: the learning rate is scaled to it."""
    config = load(name).to_dict()
    processes = max(1, 256 // config['train_dataloader']['batch_size'])
    findings = check_recipe(Recipe(config, processes, IMAGENET))
    assert [finding for finding in findings if finding.level == PROBLEM] == []


def test_numbers_of_a_recipe():
    eight = plan(VIT, {}, 8, IMAGENET)
    assert (eight.batch_size, eight.steps_per_epoch) == (1024, 1251)
    assert eight.peak_lr == pytest.approx(1.5e-4 * 4)  # the paper's, per 256 images
    assert plan(VIT, {'train_dataloader.drop_last': False}, 8, IMAGENET).steps_per_epoch == 1252
    assert plan(V2, {}, 8, None).steps_per_epoch is None


@pytest.mark.parametrize(('epochs', 'place'), [(1, ''), (2, ''), (60, ''), (1, '.1')])
def test_the_shorter_warmup_that_is_advised_is_accepted(epochs, place):
    """Of one epoch too, and of a schedule that is a list: the option is followed literally."""
    schedule = load(f'configs/{VIT}').param_scheduler.to_dict() | dict(warmup_epochs=min(40, epochs))
    several = [dict(type='LinearLR'), schedule]
    recipe = plan(VIT, {'train_cfg.max_epochs': epochs, 'param_scheduler': several if place else schedule}, 8, IMAGENET)
    (fix,) = [found.fix for found in check_recipe(recipe) if found.check == 'warmup_too_long']
    option, _, value = fix.removeprefix('--cfg-options ').partition('=')
    assert option == f'param_scheduler{place}.warmup_epochs'
    assert 0 < float(value) < epochs / 2
    config = Config(recipe.config)
    config.merge_from_dict({option: float(value)})
    found = {finding.check for finding in check_recipe(Recipe(config.to_dict(), 8, IMAGENET))}
    assert 'warmup_too_long' not in found
