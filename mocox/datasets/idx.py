"""IDX files, in which MNIST, Fashion-MNIST, KMNIST and QMNIST are published, packed or not, never downloaded."""

import gzip
import math
import os
import struct
import zlib
from typing import Any

import numpy as np

from mocox.datasets.base import Crops, ViewsDataset
from mocox.datasets.raw import Raw, check_size, with_bands
from mocox.registry import DATASETS

UNSIGNED_BYTES = 8  # the code of the only type that images and class labels are published in
MAX_BYTES = 2**32  # of the numbers of one file, which are held in memory
MAX_PACKING = 1032  # DEFLATE cannot make data smaller than by this factor
FILES = dict(train='train', test='t10k')  # how names start
FASHION_CLASSES = [
    'T-shirt/top',
    'trouser',
    'pullover',
    'dress',
    'coat',
    'sandal',
    'shirt',
    'sneaker',
    'bag',
    'ankle boot',
]


@DATASETS.register_module()
class IDXImages(ViewsDataset):
    """Images of a pair of IDX files, held in memory; gray ones become red, green and blue unless ``channels=1``.

    Source: The MNIST database of handwritten digits (LeCun, Cortes and Burges), whose page describes the format.

    Args:
        data_root: The folder of ``train-images-idx3-ubyte`` and the like, with or without ``.gz``.
        crops: Config of the transform that cuts the views.
        split: ``'train'`` or ``'test'``, whose files start with ``t10k``.
        with_labels: Whether items have a label.
        seed: Seed of crops and draws; None takes that of the run.
        part: First image and the one after the last; None for all. With it, choices are made on images that the
            training leaves out, and the test images are kept for the end.
        images: Name of the file of images in ``data_root``, where it has another.
        labels: Name of the file of labels in ``data_root``.
        pixels: ``channels`` and the like of :class:`~mocox.datasets.Pixels`.
    """

    labels: np.ndarray
    name = 'IDX'
    names: list[str] | None = None

    def __init__(
        self,
        data_root: str,
        crops: dict | Crops,
        split: str = 'train',
        with_labels: bool = False,
        seed: int | None = None,
        part: tuple[int, int] | None = None,
        images: str | None = None,
        labels: str | None = None,
        **pixels: Any,
    ) -> None:
        super().__init__(crops, with_labels, self.names, seed, **pixels)
        if split not in FILES:
            raise ValueError(f'split must be one of {list(FILES)}, got {split!r}')
        root = os.path.expanduser(data_root)
        image_file = _find(root, images or f'{FILES[split]}-images-idx3-ubyte', self.name)
        label_file = _find(root, labels or f'{FILES[split]}-labels-idx1-ubyte', self.name)
        self.images = read_idx(image_file)
        self.labels = read_idx(label_file).astype(np.int64)
        self._check(image_file, label_file)
        if part is not None:
            rows = _slice(part, len(self.images))
            self.images, self.labels = self.images[rows], self.labels[rows]

    def __len__(self) -> int:
        return len(self.images)

    def load(self, index: int) -> tuple[np.ndarray, int | None]:
        """Look one image up, (H, W, C), and its label."""
        bands = self.images[index]
        raw = Raw(with_bands(bands), 0, 255, is_colour=bands.ndim == 3)
        return self.pixels(raw), int(self.labels[index]) if self.with_labels else None

    def _check(self, image_file: str, label_file: str) -> None:
        shape = self.images.shape
        if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] != 3):
            raise ValueError(f'{image_file!r} holds {shape}: images are (N, height, width) or (N, height, width, 3)')
        check_size(shape[1], shape[2])
        if self.labels.shape != shape[:1]:
            raise ValueError(
                f'{label_file!r} holds labels of shape {self.labels.shape} for {shape[0]} images of {image_file!r}: '
                'the two files do not belong together'
            )
        if self.names and self.labels.max() >= len(self.names):
            raise ValueError(
                f'{label_file!r} has labels up to {self.labels.max()}, {self.name} has {len(self.names)} classes: '
                "read other images with type='IDXImages'"
            )


@DATASETS.register_module()
class FashionMNISTImages(IDXImages):
    """The 60,000 training or 10,000 test images of Fashion-MNIST; arguments as for :class:`IDXImages`.

    Source: arXiv 1708.07747. Debian and Ubuntu have it as the package ``dataset-fashion-mnist``.
    """

    name = 'Fashion-MNIST'
    names = FASHION_CLASSES


def read_idx(path: str) -> np.ndarray:
    """The array of an IDX file of unsigned bytes; one that ends with ``.gz`` is unpacked.

    Raises:
        ValueError: Not such a file, or one whose header asks for other numbers than it has.
    """
    packed = path.endswith('.gz')
    try:
        with gzip.open(path) if packed else open(path, 'rb') as file:
            return _read(file, os.path.getsize(path) * (MAX_PACKING if packed else 1))
    except (ValueError, EOFError, OSError, struct.error, zlib.error) as error:
        raise ValueError(f'{path!r} is not an IDX file of unsigned bytes ({error}): fetch it again') from error


def _read(file: Any, most: int) -> np.ndarray:
    """Refuse a header that the size of the file contradicts, before anything is read or allocated."""
    zeros, kind, dimensions = struct.unpack('>HBB', file.read(4))
    if zeros or kind != UNSIGNED_BYTES or not 1 <= dimensions <= 4:
        raise ValueError(f'it starts with {zeros:04x} {kind:02x} {dimensions:02x} and not with 0000 08 and 1 to 4')
    shape = struct.unpack(f'>{dimensions}I', file.read(4 * dimensions))
    total = math.prod(shape)
    if not 0 < total <= min(most, MAX_BYTES):
        raise ValueError(f'its header says {" x ".join(map(str, shape))}, which a file of this size cannot hold')
    data = file.read(total + 1)
    if len(data) != total:
        more = 'more than that' if len(data) > total else f'{len(data)}'
        raise ValueError(f'its header says {" x ".join(map(str, shape))} = {total} bytes, and it holds {more}')
    return np.frombuffer(data, np.uint8).reshape(shape).copy()  # which torch may write to


def _find(root: str, name: str, what: str) -> str:
    for path in (os.path.join(root, name), os.path.join(root, name + '.gz')):
        if os.path.isfile(path):
            return path
    raise FileNotFoundError(
        f'no {what} in {root!r}: neither {name} nor {name}.gz is there. Fashion-MNIST is the package '
        'dataset-fashion-mnist of Debian and Ubuntu (/usr/share/datasets/fashion-mnist); pass its folder: '
        '--data-root DIR, and --fashion DIR to the demo'
    )


def _slice(part: tuple[int, int], total: int) -> slice:
    first, end = part
    if not 0 <= first < end <= total:
        raise ValueError(f'part={list(part)}: of {total} images, give the first and the one after the last')
    return slice(first, end)
