"""Tiny models and files in the layouts of other projects."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mocox.checkpoint import mocox_to_official
from mocox.registry import MODELS

ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
VIT = dict(type='MoCoViT', arch=ARCH, img_size=32, patch_size=8)
CONV_VIT = dict(VIT, stem='conv', norm_cfg=dict(type='BN'))
RESNET = dict(type='mmpretrain.ResNet', depth=18, base_channels=8, stem_channels=8, out_indices=(3,))


def perturbed(module: nn.Module) -> nn.Module:
    """Every tensor off its initial value, statistics and frozen ones too; step counters stay integers."""
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) * 0.1)
    module.eval()  # mmpretrain's ResNet returns nothing here
    return module


def backbone(config: dict) -> nn.Module:
    return perturbed(MODELS.build(config))


def pretraining_model(config: dict, width: int = 32) -> nn.Module:
    """A whole MoCo v3: three-layer projector and normalised prediction for a ViT, two and none for a ResNet."""
    vit = 'arch' in config
    bn = dict(type='BN1d')
    neck = dict(type='NonLinearNeck', in_channels=width, hid_channels=16, out_channels=8, norm_cfg=bn)
    neck.update(num_layers=3 if vit else 2, with_last_bn_affine=False)
    predictor = dict(neck, in_channels=8, num_layers=2, with_last_bn=vit)
    return perturbed(
        MODELS.build(
            dict(type='MoCoV3', backbone=config, neck=neck, head=dict(type='ContrastiveHead', predictor=predictor))
        )
    )


def official_file(path: Path, config: dict, width: int = 32, arch: str = 'vit_tiny') -> Path:
    state = mocox_to_official(pretraining_model(config, width).state_dict())
    torch.save({'epoch': 300, 'arch': arch, 'state_dict': state, 'optimizer': {'state': {}, 'param_groups': []}}, path)
    return path


def probe_file(path: Path, config: dict = VIT, width: int = 32) -> Path:
    """An official linear-evaluation file: only weight and bias of the classifier have optimizer state."""
    state = {f'module.{key}': tensor for key, tensor in backbone(config).state_dict().items()}
    state |= {'module.head.weight': torch.randn(10, width), 'module.head.bias': torch.randn(10)}
    moved = {i: {'momentum_buffer': torch.zeros(1)} for i in range(2)}
    torch.save(
        {
            'epoch': 90,
            'arch': 'vit_tiny',
            'state_dict': state,
            'best_acc1': torch.tensor(70.0),
            'optimizer': {'state': moved},
        },
        path,
    )
    return path


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Same names, bit-equal tensors."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def official_vit(tmp_path: Path) -> Path:
    return official_file(tmp_path / 'vit.pth.tar', VIT)


@pytest.fixture
def official_resnet(tmp_path: Path) -> Path:
    return official_file(tmp_path / 'resnet.pth.tar', RESNET, width=64, arch='resnet18')
