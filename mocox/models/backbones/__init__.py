"""Backbones of our own; ResNets and timm models come from mmpretrain by name."""

from mocox.models.backbones.vit import MoCoViT

__all__ = ['MoCoViT']
