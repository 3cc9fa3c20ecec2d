"""Images in, uint8 views out: datasets, crops, the epoch-aware sampler."""

from mocox.datasets.base import NUM_DRAWS, ViewsDataset, collate_views
from mocox.datasets.cifar10 import CIFAR10Images
from mocox.datasets.decode import decode
from mocox.datasets.image_files import ImageFiles
from mocox.datasets.samplers import EpochSampler
from mocox.datasets.transforms import CenterCrop, RandomAffineCrops, RandomResizedCrops

__all__ = [
    'NUM_DRAWS',
    'CIFAR10Images',
    'CenterCrop',
    'EpochSampler',
    'ImageFiles',
    'RandomAffineCrops',
    'RandomResizedCrops',
    'ViewsDataset',
    'collate_views',
    'decode',
]
