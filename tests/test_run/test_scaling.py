"""A flag changes all that must agree with it, and the model that the config describes can be built."""

import pytest
import torch
from mmengine.config import Config

from mocox.recipe import Recipe
from mocox.run.options import prepare_config
from tests.test_configs.shipped import build_on_meta, model_config

VIT, RESNET, TIMM = 'mocov3/vit-small_custom', 'mocov3/resnet18_custom', 'mocov3/timm-resnet18_custom'


@pytest.mark.parametrize(
    ('recipe', 'arch', 'width'),
    [
        (VIT, 'tiny', 192), (VIT, 'vit-base', 768), (RESNET, 'resnet50', 2048), (RESNET, 'resnet34', 512),
        (TIMM, 'resnet50', 2048), ('mocov2/resnet50_custom', 'resnet18', 512),
        ('mocov3/vit-small_custom_linear', 'tiny', 192), ('mocov3/resnet18_custom_linear', 'resnet50', 2048),
    ],
)  # fmt: skip
def test_the_heads_have_the_width_of_the_architecture(recipe, arch, width):
    config = prepare_config(recipe, arch=arch)
    model = build_on_meta(model_config(config)).eval()
    assert (config.model.get('neck') or config.model.head).in_channels == width
    assert model.backbone(torch.zeros(1, 3, 224, 224, device='meta'))[-1].shape[1] == width


def test_epochs_keep_the_place_of_warm_up_and_steps():
    config = prepare_config(VIT, epochs=30)
    assert (config.train_cfg.max_epochs, config.param_scheduler.warmup_epochs) == (30, 4)  # 40 of 300
    assert prepare_config(VIT, epochs=1).param_scheduler.warmup_epochs == 1
    assert prepare_config('mocov1/resnet50_200e', epochs=50).param_scheduler.milestones == [30, 40]  # 120, 160 of 200
    assert prepare_config('mocov2/resnet50_custom', epochs=50).param_scheduler.warmup_epochs == 0
    assert prepare_config('mocov3/vit-tiny_digits_linear', epochs=5).train_cfg.val_interval == 5  # 50 of 50


@pytest.mark.parametrize(('recipe', 'peak'), [(VIT, 6e-4 * 32 / 256), ('mocov2/resnet50_200e', 0.03 * 32 / 256)])
def test_the_learning_rate_follows_the_batch(recipe, peak):
    assert Recipe(prepare_config(recipe, batch_size=32)).peak_lr == pytest.approx(peak)
    assert Recipe(prepare_config(recipe, batch_size=32, lr=1e-3)).peak_lr == pytest.approx(1e-3 * 32 / 256)


def test_the_side_of_crops_backbone_and_test_images():
    config = prepare_config(VIT, image_size=96)
    assert (config.train_dataloader.dataset.crops.size, config.model.backbone.img_size) == (96, 96)
    config = prepare_config('mocov3/vit-small_custom_linear', image_size=112)
    for loader in (config.val_dataloader, config.test_dataloader):
        assert (loader.dataset.crops.size, loader.dataset.crops.resize) == (112, 128)  # 224 of 256
    assert config.model.backbone.img_size == 112
    assert 'img_size' not in prepare_config(RESNET, image_size=96).model.backbone


def test_workers_reach_every_loader_and_options_come_last():
    config = prepare_config('mocov3/vit-small_custom_linear', workers=1)
    assert {config[f'{name}_dataloader'].num_workers for name in ('train', 'val', 'test')} == {1}
    assert prepare_config(VIT, epochs=30, cfg_options={'train_cfg.max_epochs': 7}).train_cfg.max_epochs == 7


@pytest.mark.parametrize(
    ('recipe', 'sizes', 'message'),
    [
        (VIT, dict(epochs=0), '--epochs must be at least 1, got 0'),
        (VIT, dict(workers=-1), '--workers must be at least 0'),
        (VIT, dict(lr=-1.0), '--lr must be above 0'),
        (VIT, dict(arch='resnet18'), r'--arch resnet18: this recipe is for vision transformers .*resnet18_custom'),
        (RESNET, dict(arch='tiny'), r'--arch tiny: this recipe is for ResNets .*vit-tiny_custom'),
        (TIMM, dict(arch='resnett'), 'timm has no such model'),
        ('moby/swin-tiny', dict(arch='tiny'), 'SwinTransformer, has no sizes'),
    ],
)
def test_what_cannot_be_is_refused(recipe, sizes, message):
    with pytest.raises(ValueError, match=message):
        prepare_config(recipe, **sizes)


EMPTY = [(dict(epochs=3), 'no train_cfg'), (dict(image_size=32), 'no crops'), (dict(arch='x'), 'no model')]


@pytest.mark.parametrize(('sizes', 'message'), EMPTY)
def test_a_config_without_a_place_for_a_value(tmp_path, sizes, message):
    Config(dict(work_dir='x')).dump(tmp_path / 'empty.py')
    with pytest.raises(ValueError, match=message):
        prepare_config(str(tmp_path / 'empty.py'), **sizes)
