"""The backbones of the traces, as configs of the components that mocox trains."""

from collections.abc import Callable
from math import isclose
from typing import Any

import torch
from torch import nn

from mocox.registry import MODELS

FIXED_FIELDS = dict(act='gelu_erf', norm='pre', dropout=0.0, ln_eps=1e-6)  # what our ViT always is


def check_fixed_fields(model: dict) -> None:
    """Raise ValueError for a network that mocox does not have."""
    for name, supported in FIXED_FIELDS.items():
        if model.get(name, supported) != supported:
            raise ValueError(f'model.{name}={model[name]!r}; mocox has {supported!r} only')


def backbone_config(model: dict, norm: str = 'mocox.SyncBN') -> tuple[dict, int]:
    """Our backbone for the ``model`` field of a case, and the width of its features."""
    return build_one_of(model, norm, vit=moco_vit, resnet=resnet, swin=swin)


def build_one_of(model: dict, *arguments: str, **builders: Callable[..., tuple[dict, int]]) -> tuple[dict, int]:
    """The backbone by the builder of its ``arch``; raises ValueError if there is none."""
    if model['arch'] not in builders:
        raise ValueError(f'model.arch={model["arch"]!r} is not one of {sorted(builders)}')
    return builders[model['arch']](model, *arguments)


def vit_sizes(model: dict) -> dict:
    """The four sizes of a transformer."""
    width = model['embed_dim']
    return dict(
        embed_dims=width,
        num_layers=model['depth'],
        num_heads=model['num_heads'],
        feedforward_channels=round(width * model['mlp_ratio']),
    )


def moco_vit(model: dict, norm: str) -> tuple[dict, int]:
    """MoCo v3's transformer."""
    return dict(
        type='MoCoViT',
        arch=vit_sizes(model),
        img_size=model['img_size'],
        patch_size=model['patch_size'],
        in_channels=model['in_chans'],
        stem=model['stem'],
        stop_grad_conv1=model['stop_grad_conv1'],
        qkv_bias=model['qkv_bias'],
        final_norm=model['final_norm'],
        out_type={'cls': 'cls_token', 'avg': 'avg_featmap'}[model['pool']],
    ), model['embed_dim']


def finetuned_vit(model: dict) -> tuple[dict, int]:
    """The same as DeiT trains it: all of it learns."""
    return dict(
        type='mocox.MoCoViT',
        arch=vit_sizes(model),
        img_size=model['img_size'],
        patch_size=model['patch_size'],
        in_channels=model.get('in_chans', 3),
        stop_grad_conv1=False,
        learn_positions=True,
        qkv_bias=model.get('qkv_bias', True),
        drop_path_rate=model.get('drop_path_rate', 0.0),
    ), model['embed_dim']


def deit(model: dict) -> tuple[dict, int]:
    """The transformer that MoBY's recipe trains."""
    return dict(
        type='mmpretrain.VisionTransformer',
        arch=vit_sizes(model),
        img_size=model['img_size'],
        patch_size=model['patch_size'],
        in_channels=model.get('in_chans', 3),
        qkv_bias=model.get('qkv_bias', True),
        drop_path_rate=model.get('drop_path_rate', 0.0),
    ), model['embed_dim']


def swin(model: dict, norm: str = '') -> tuple[dict, int]:
    """Swin Transformer with any number of stages; a window shrinks to a map that is smaller, as published."""
    depths, width = model['depths'], model.get('embed_dims') or model['embed_dim']
    side = model['img_size'] // model['patch_size']
    block = dict(ffn_ratio=model['mlp_ratio'], attn_cfgs=dict(qkv_bias=model.get('qkv_bias', True)))
    return dict(
        type='mmpretrain.SwinTransformer',
        arch=dict(embed_dims=width, depths=depths, num_heads=model['num_heads']),
        img_size=model['img_size'],
        patch_size=model['patch_size'],
        in_channels=model.get('in_chans', 3),
        drop_path_rate=model.get('drop_path_rate', 0.0),
        out_indices=(len(depths) - 1,),
        stage_cfgs=[
            dict(window_size=min(model['window_size'], side // 2**i), block_cfgs=block) for i in range(len(depths))
        ],
    ), width * 2 ** (len(depths) - 1)


def resnet(model: dict, norm: str) -> tuple[dict, int]:
    """Mmpretrain's ResNet with the widths of the case."""
    return dict(
        type='TraceResNet',
        block=model['block'],
        layers=model['layers'],
        in_channels=model['in_chans'],
        stem_channels=model['width'],
        base_channels=model['width'],
        zero_init_residual=model['zero_init_residual'],
        norm_cfg=dict(type=norm, eps=model['bn_eps'], momentum=model['bn_momentum']),
    ), model['feature_dim']


@MODELS.register_module()
def TraceResNet(block: str, layers: list[int], **kwargs) -> nn.Module:
    """Mmpretrain's ResNet with any number of ``basic`` or ``bottleneck`` blocks per stage."""
    from mmpretrain.models.backbones.resnet import BasicBlock, Bottleneck, ResNet

    kinds = {'basic': BasicBlock, 'bottleneck': Bottleneck}
    resnet = type('TraceResNet', (ResNet,), dict(arch_settings={0: (kinds[block], tuple(layers))}))
    return resnet(depth=0, **kwargs)


def draw_published_paths(backbone: nn.Module, rate: float, depth: int) -> None:
    """Let each drop path draw its random numbers as the recorded code did, at that code's float32 rates.

    timm's of today draws from another law with the same probabilities, and mmpretrain's ViT keeps rates in float64.

    Raises:
        ValueError: A rate that is none of the published ones.
    """
    rates = torch.linspace(0, rate, depth).tolist()
    drop_paths: list[Any] = [module for module in backbone.modules() if hasattr(module, 'drop_prob')]
    for module in drop_paths:
        nearest = min(rates, key=lambda r: abs(r - module.drop_prob))
        if not isclose(nearest, module.drop_prob, rel_tol=1e-5):
            raise ValueError(f'a drop path of rate {module.drop_prob} in a network of {depth} blocks up to {rate}')
        module.drop_prob = nearest
        module.forward = _drop_path(module)


def _drop_path(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(x: torch.Tensor) -> torch.Tensor:
        if not module.training or not module.drop_prob:
            return x
        keep = 1 - module.drop_prob
        kept = (keep + torch.rand((len(x),) + (1,) * (x.ndim - 1), dtype=x.dtype)).floor_()
        return x.div(keep) * kept

    return forward
