"""Backbones: the transformer of MoCo v3, and any model of timm or transformers, modules of your own."""

from mocox.models.backbones.grid import grid_pooled_resnet
from mocox.models.backbones.pooled import PooledBackbone
from mocox.models.backbones.timm_backbone import TIMMBackbone
from mocox.models.backbones.transformers_backbone import TransformersBackbone
from mocox.models.backbones.vit import MoCoViT

__all__ = ['MoCoViT', 'PooledBackbone', 'TIMMBackbone', 'TransformersBackbone', 'grid_pooled_resnet']
