"""CIFAR-10 as its authors publish it, from either archive, never downloaded."""

import os
import pickle
from typing import Any

import numpy as np

from mocox.datasets.base import Crops, ViewsDataset
from mocox.registry import DATASETS

URL = 'https://www.cs.toronto.edu/~kriz/cifar.html'
CLASSES = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']
BATCHES = dict(train=[f'data_batch_{n}' for n in range(1, 6)], test=['test_batch'])
FOLDERS = ('', 'cifar-10-batches-bin', 'cifar-10-batches-py')
RECORD_BYTES = 1 + 3 * 32 * 32  # label, then the red, green and blue plane


@DATASETS.register_module()
class CIFAR10Images(ViewsDataset):
    """The 50,000 training or 10,000 test images of CIFAR-10, held in memory.

    Source: Learning Multiple Layers of Features from Tiny Images (Krizhevsky, 2009).

    Args:
        data_root: The unpacked binary or python version, or the folder that it was unpacked in.
        crops: Config of the transform that cuts the views.
        split: ``'train'`` or ``'test'``.
        with_labels: Whether items have a label.
        seed: Seed of crops and draws.
    """

    def __init__(
        self, data_root: str, crops: dict | Crops, split: str = 'train', with_labels: bool = False, seed: int = 0
    ) -> None:
        super().__init__(crops, with_labels, CLASSES, seed)
        if split not in BATCHES:
            raise ValueError(f'split must be one of {list(BATCHES)}, got {split!r}')
        batches = [_read_batch(path) for path in _batch_files(os.path.expanduser(data_root), BATCHES[split])]
        planes = np.concatenate([images for images, _ in batches]).reshape(-1, 3, 32, 32)
        self.images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))  # (N, 32, 32, 3)
        self.labels = np.concatenate([labels for _, labels in batches])

    def __len__(self) -> int:
        return len(self.images)

    def load(self, index: int) -> tuple[np.ndarray, int | None]:
        """Looks one image up, (32, 32, 3), and its label."""
        return self.images[index], int(self.labels[index]) if self.with_labels else None


def _batch_files(data_root: str, names: list[str]) -> list[str]:
    for folder in FOLDERS:
        for suffix in ('.bin', ''):
            paths = [os.path.join(data_root, folder, name + suffix) for name in names]
            if all(os.path.isfile(path) for path in paths):
                return paths
    raise FileNotFoundError(
        f'no CIFAR-10 in {data_root!r}: {names[0]}.bin or {names[0]} is neither there nor in its subfolder '
        f'{" or ".join(FOLDERS[1:])}. Unpack the binary version from {URL} and pass --data-root DIR or set data_root'
    )


def _read_batch(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3072) uint8 and labels (N,)."""
    images, labels = _read_binary(path) if path.endswith('.bin') else _read_pickle(path)
    if not len(labels) or images.shape != (len(labels), RECORD_BYTES - 1) or labels.min() < 0 or labels.max() > 9:
        raise ValueError(f'{path!r} is not a CIFAR-10 batch: unpack the archive from {URL} again')
    return images, labels


def _read_binary(path: str) -> tuple[np.ndarray, np.ndarray]:
    data = np.fromfile(path, np.uint8)
    if data.size % RECORD_BYTES:
        raise ValueError(f'{path!r} is not a CIFAR-10 batch or not all of one: unpack the archive from {URL} again')
    records = data.reshape(-1, RECORD_BYTES)
    return records[:, 1:], records[:, 0].astype(np.int64)


class _ArrayUnpickler(pickle.Unpickler):
    """Builds dictionaries, lists, numbers and NumPy arrays, and nothing else: a pickle can name any function."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (('numpy', 'ndarray'), ('numpy', 'dtype')):
            return getattr(np, name)
        if (module, name) in (('numpy.core.multiarray', '_reconstruct'), ('numpy._core.multiarray', '_reconstruct')):
            return np.empty(0).__reduce__()[0]  # its module moved between NumPy 1 and 2
        raise pickle.UnpicklingError(f'it asks for {module}.{name}, which CIFAR-10 does not need')


def _read_pickle(path: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        with open(path, 'rb') as file:
            batch = _ArrayUnpickler(file, encoding='bytes').load()
        batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        return np.asarray(batch['data'], np.uint8), np.asarray(batch['labels'], np.int64)
    except Exception as error:  # the unpickler raises anything from EOFError to KeyError
        raise ValueError(f'{path!r} is not a CIFAR-10 batch ({error}): unpack the archive from {URL} again') from error
