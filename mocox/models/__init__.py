"""Registered models, layers, losses and data preprocessors."""

from mocox.models.algorithms import FastMoCo, LinearProbe, MoBY, MoCo, MoCoV3
from mocox.models.backbones import MoCoViT, PooledBackbone, TIMMBackbone, TransformersBackbone
from mocox.models.batch_norm import SplitBatchNorm, SyncBatchNorm
from mocox.models.data_preprocessor import LabelledPreprocessor, ViewsPreprocessor
from mocox.models.fully_shard import FullyShard
from mocox.models.heads import ContrastiveHead
from mocox.models.losses import InfoNCELoss
from mocox.models.necks import NonLinearNeck, SimpleFeaturePyramid

__all__ = [
    'ContrastiveHead',
    'FastMoCo',
    'FullyShard',
    'InfoNCELoss',
    'LabelledPreprocessor',
    'LinearProbe',
    'MoBY',
    'MoCo',
    'MoCoV3',
    'MoCoViT',
    'NonLinearNeck',
    'PooledBackbone',
    'SimpleFeaturePyramid',
    'SplitBatchNorm',
    'SyncBatchNorm',
    'TIMMBackbone',
    'TransformersBackbone',
    'ViewsPreprocessor',
]
