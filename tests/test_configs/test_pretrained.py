"""Weights given by ``--pretrained`` are the weights that the frozen backbone has when training starts."""

import pytest
import torch
from mmengine.registry import DefaultScope

from mocox.registry import MODELS
from tests.test_configs.shipped import load, model_config

TINY = dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16)
BACKBONES = {
    'mocov3/vit-small_linear': dict(arch=TINY, img_size=32),
    'mocov3/resnet50_linear': dict(depth=18),
    'mocov3/resnet50_100e': dict(depth=18),  # zero_init_residual=True must not touch loaded weights
    'mocov3/timm-resnet18_custom_linear': {},
    'mocov2/resnet50_200e': dict(depth=18),
    'moby/swin-tiny_linear': dict(
        arch=dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2]), img_size=32, out_indices=(1,)
    ),
    'moby/deit-small_linear': dict(arch=TINY, img_size=32),
}


@pytest.mark.parametrize('name', BACKBONES)
def test_loaded_weights_survive_the_initialisation(name, tmp_path):
    backbone = model_config(load(f'configs/{name}.py'))['backbone'] | BACKBONES[name]
    path = tmp_path / 'pretrained.pth'
    with DefaultScope.overwrite_default_scope('mocox'):
        source = MODELS.build(backbone)
        with torch.no_grad():
            for tensor in source.state_dict().values():
                tensor.copy_(torch.rand(tensor.shape) + 1)
        torch.save(dict(state_dict={f'backbone.{key}': value for key, value in source.state_dict().items()}), path)
        loaded = MODELS.build(backbone | dict(init_cfg=dict(type='mocox.Pretrained', checkpoint=str(path))))
        loaded.init_weights()
    torch.testing.assert_close(loaded.state_dict(), source.state_dict(), rtol=0, atol=0)
