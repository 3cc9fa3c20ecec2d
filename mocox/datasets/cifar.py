"""CIFAR-10 and CIFAR-100 as their authors publish them, from either archive, never downloaded."""

import io
import os

import numpy as np

from mocox.datasets.base import Crops, ViewsDataset
from mocox.pickles import ArrayUnpickler, RefusedPickle, find_cost
from mocox.registry import DATASETS

URL = 'https://www.cs.toronto.edu/~kriz/cifar.html'
CLASSES = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']
PIXEL_BYTES = 3 * 32 * 32  # the red, green and blue plane


@DATASETS.register_module()
class CIFAR10Images(ViewsDataset):
    """The 50,000 training or 10,000 test images of CIFAR-10, held in memory.

    Source: Learning Multiple Layers of Features from Tiny Images (Krizhevsky, 2009).

    Args:
        data_root: The unpacked binary or python version, or the folder that it was unpacked in.
        crops: Config of the transform that cuts the views.
        split: ``'train'`` or ``'test'``.
        with_labels: Whether items have a label.
        seed: Seed of crops and draws; None takes that of the run.
    """

    labels: np.ndarray
    name = 'CIFAR-10'
    folders = ('', 'cifar-10-batches-bin', 'cifar-10-batches-py')
    files = dict(train=[f'data_batch_{n}' for n in range(1, 6)], test=['test_batch'])
    names: list[str] | None = CLASSES
    num_classes = 10
    label_bytes = 1  # before the pixels of a binary record; the label is the last of them
    label_key = 'labels'

    def __init__(
        self,
        data_root: str,
        crops: dict | Crops,
        split: str = 'train',
        with_labels: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__(crops, with_labels, self.names, seed)
        if split not in self.files:
            raise ValueError(f'split must be one of {list(self.files)}, got {split!r}')
        batches = [self._read_batch(path) for path in self._find(os.path.expanduser(data_root), self.files[split])]
        planes = np.concatenate([images for images, _ in batches]).reshape(-1, 3, 32, 32)
        self.images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))  # (N, 32, 32, 3)
        self.labels = np.concatenate([labels for _, labels in batches])

    def __len__(self) -> int:
        return len(self.images)

    def load(self, index: int) -> tuple[np.ndarray, int | None]:
        """Look one image up, (32, 32, 3), and its label."""
        return self.images[index], int(self.labels[index]) if self.with_labels else None

    def _find(self, data_root: str, names: list[str]) -> list[str]:
        for folder in self.folders:
            for suffix in ('.bin', ''):
                paths = [os.path.join(data_root, folder, name + suffix) for name in names]
                if all(os.path.isfile(path) for path in paths):
                    return paths
        raise FileNotFoundError(
            f'no {self.name} in {data_root!r}: {names[0]}.bin or {names[0]} is neither there nor in its subfolder '
            f'{" or ".join(self.folders[1:])}. Unpack the binary version from {URL} and pass --data-root DIR or set '
            'data_root'
        )

    def _read_batch(self, path: str) -> tuple[np.ndarray, np.ndarray]:
        """Images (N, 3072) uint8 and labels (N,)."""
        try:
            images, labels = self._read_binary(path) if path.endswith('.bin') else self._read_pickle(path)
            if not len(labels) or images.shape != (len(labels), PIXEL_BYTES):
                raise ValueError(f'{len(labels)} labels for images of shape {images.shape}')
            if labels.min() < 0 or labels.max() >= self.num_classes:
                raise ValueError(f'labels from {labels.min()} to {labels.max()}')
        except Exception as error:  # the unpickler raises anything from EOFError to KeyError
            raise ValueError(
                f'{path!r} is not a {self.name} batch ({error}): unpack the archive from {URL} again'
            ) from error
        return images, labels

    def _read_binary(self, path: str) -> tuple[np.ndarray, np.ndarray]:
        records = np.fromfile(path, np.uint8).reshape(-1, self.label_bytes + PIXEL_BYTES)
        return records[:, self.label_bytes :], records[:, self.label_bytes - 1].astype(np.int64)

    def _read_pickle(self, path: str) -> tuple[np.ndarray, np.ndarray]:
        with open(path, 'rb') as file:
            pickled = file.read()
        if cost := find_cost(pickled):
            raise ValueError(cost)
        try:
            batch = ArrayUnpickler(io.BytesIO(pickled), encoding='bytes').load()
        except RefusedPickle as error:
            raise ValueError(f'it asks for {error}, which CIFAR does not need') from None
        batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        return np.asarray(batch['data'], np.uint8), np.asarray(batch[self.label_key], np.int64)


@DATASETS.register_module()
class CIFAR100Images(CIFAR10Images):
    """The 50,000 training or 10,000 test images of CIFAR-100 with their fine labels; arguments as for CIFAR-10."""

    name = 'CIFAR-100'
    folders = ('', 'cifar-100-binary', 'cifar-100-python')
    files = dict(train=['train'], test=['test'])
    names = None
    num_classes = 100
    label_bytes = 2  # the coarse and the fine label
    label_key = 'fine_labels'
