"""Every algorithm, small: with transformers, ConvNets, a Swin, a queue, groups of BatchNorm, stochastic depth."""

import torch

from mocox.models import MoCoV3
from mocox.models.algorithms import MomentumContrast
from mocox.registry import MODELS

VIT = dict(
    type='MoCoViT', img_size=8, patch_size=4,
    arch=dict(embed_dims=16, num_layers=2, num_heads=4, feedforward_channels=32),
)  # fmt: skip
RESNET = dict(type='mmpretrain.ResNet', depth=18, stem_channels=4, base_channels=4, norm_cfg=dict(type='BN'))
SWIN = dict(
    type='mmpretrain.SwinTransformer', arch=dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2]), img_size=32,
    patch_size=4, window_size=4, out_indices=(1,), drop_path_rate=0.2,
)  # fmt: skip
MLP = dict(type='NonLinearNeck', hid_channels=12, out_channels=8)
BIASED = dict(MLP, with_bias=True, with_last_bias=True, with_last_bn=False)
PREDICTOR = dict(type='ContrastiveHead', temperature=0.2, predictor=dict(MLP, in_channels=8))
BIASED_PREDICTOR = dict(PREDICTOR, predictor=dict(BIASED, in_channels=8))
HEAD = dict(type='ContrastiveHead', temperature=0.2)
QUEUE = dict(queue_len=16, feat_dim=8)
MODELS_BY_NAME = {
    'v3': (8, dict(type='MoCoV3', backbone=VIT, neck=dict(MLP, in_channels=16), head=PREDICTOR)),
    'v3, views apart': (
        8,
        dict(type='MoCoV3', backbone=VIT, neck=dict(MLP, in_channels=16), head=PREDICTOR, merge_views=False),
    ),
    'v3, conv stem, stochastic depth': (
        32,
        dict(
            type='MoCoV3',
            neck=dict(MLP, in_channels=16),
            head=PREDICTOR,
            backbone=dict(VIT, img_size=32, patch_size=16, stem='conv', drop_path_rate=0.3),
        ),
    ),
    'v3, ResNet, channels last': (
        32,
        dict(type='MoCoV3', backbone=RESNET, neck=dict(MLP, in_channels=32), head=PREDICTOR, channels_last=True),
    ),
    'v2': (32, dict(type='MoCo', backbone=RESNET, neck=dict(MLP, in_channels=32), head=HEAD, **QUEUE)),
    'v2, groups': (
        32,
        dict(
            type='MoCo',
            neck=dict(MLP, in_channels=32),
            head=HEAD,
            **QUEUE,
            backbone=dict(RESNET, norm_cfg=dict(type='mocox.SplitBN', group_size=2)),
        ),
    ),
    'v2, symmetric': (
        32,
        dict(type='MoCo', backbone=RESNET, neck=dict(MLP, in_channels=32), head=HEAD, symmetric=True, **QUEUE),
    ),
    'MoBY': (32, dict(type='MoBY', backbone=SWIN, neck=dict(BIASED, in_channels=16), head=BIASED_PREDICTOR, **QUEUE)),
    'Fast-MoCo': (64, dict(type='FastMoCo', backbone=RESNET, neck=dict(MLP, in_channels=32), head=BIASED_PREDICTOR)),
}


def config(backbone: dict = VIT, **kwargs) -> dict:
    neck = dict(type='NonLinearNeck', in_channels=16, hid_channels=12, out_channels=8, with_last_bn_affine=False)
    predictor = dict(neck, in_channels=8)
    head = dict(type='ContrastiveHead', predictor=predictor, temperature=0.2)
    return dict(type='MoCoV3', backbone=backbone, neck=neck, head=head, **kwargs)


def build(**kwargs) -> MoCoV3:
    torch.manual_seed(0)
    model = MODELS.build(config(**kwargs)).double()
    model.init_weights()
    return model


def views(size: int = 8, n: int = 6) -> list[torch.Tensor]:
    return list(torch.randn(2, n, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))


def moco_config(norm: str = 'BN', **kwargs) -> dict:
    """MoCo v2 with a narrow ResNet-18."""
    return dict(
        type='MoCo',
        backbone=dict(
            type='mmpretrain.ResNet', depth=18, stem_channels=4, base_channels=4, norm_cfg=dict(type=norm)
        ),
        neck=dict(type='mmpretrain.MoCoV2Neck', in_channels=32, hid_channels=16, out_channels=8),
        head=dict(type='ContrastiveHead', temperature=0.2),
        queue_len=16,
        feat_dim=8,
    ) | kwargs  # fmt: skip


def resnet_model(norm: str = 'BN', dtype: torch.dtype = torch.float64, **kwargs) -> MomentumContrast:
    """MoCo with a narrow ResNet, whose SplitBN makes groups of 2."""
    torch.manual_seed(0)
    settings = moco_config(norm, **kwargs)
    if norm.endswith('SplitBN'):
        settings['backbone']['norm_cfg']['group_size'] = 2
    model = MODELS.build(settings).to(dtype)
    model.init_weights()
    return model
