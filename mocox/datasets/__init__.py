"""Images in, uint8 views out: datasets, crops, the epoch-aware sampler."""

from mocox.datasets.annotated import AnnotatedImages, FlowersImages, INaturalistImages, PetsImages
from mocox.datasets.base import NUM_DRAWS, ViewsDataset, collate_views
from mocox.datasets.cifar import CIFAR10Images, CIFAR100Images
from mocox.datasets.decoding import decode
from mocox.datasets.elpv import ELPVImages
from mocox.datasets.encoded_images import EncodedImages
from mocox.datasets.idx import FashionMNISTImages, IDXImages
from mocox.datasets.image_files import ImageFiles
from mocox.datasets.inferencer import InferencerCrops
from mocox.datasets.lmdb_images import LMDBImages, write_lmdb
from mocox.datasets.pixels import Pixels
from mocox.datasets.positives import Positives
from mocox.datasets.samplers import EpochSampler
from mocox.datasets.subset import stratified_subset
from mocox.datasets.transforms import CenterCrop, RandomAffineCrops, RandomResizedCrops, TransformedCrops
from mocox.datasets.voc07 import VOC07Images
from mocox.datasets.webdataset_images import WebDatasetImages

__all__ = [
    'NUM_DRAWS',
    'AnnotatedImages',
    'CIFAR10Images',
    'CIFAR100Images',
    'CenterCrop',
    'ELPVImages',
    'EncodedImages',
    'EpochSampler',
    'FashionMNISTImages',
    'FlowersImages',
    'IDXImages',
    'INaturalistImages',
    'ImageFiles',
    'InferencerCrops',
    'LMDBImages',
    'PetsImages',
    'Pixels',
    'Positives',
    'RandomAffineCrops',
    'RandomResizedCrops',
    'TransformedCrops',
    'VOC07Images',
    'ViewsDataset',
    'WebDatasetImages',
    'collate_views',
    'decode',
    'stratified_subset',
    'write_lmdb',
]
