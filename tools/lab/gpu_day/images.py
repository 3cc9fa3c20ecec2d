"""Images for a learning run: Fashion-MNIST or CIFAR-10 if available, otherwise generated ones."""

import struct
from pathlib import Path

import numpy as np

PLACES = ('/usr/share/datasets/fashion-mnist', 'data/fashion-mnist', 'data/cifar10')
GENERATED = 'generated'
DATASETS = {'fashion-mnist': 'FashionMNISTImages', 'cifar-10': 'CIFAR10Images', GENERATED: 'IDXImages'}
IDX = [f'{part}-{what}-ubyte' for part in ('train', 't10k') for what in ('images-idx3', 'labels-idx1')]
CIFAR = ('data_batch_1.bin', 'data_batch_1')
SIDE, CLASSES = 28, 10


def find_images(data: str | None) -> tuple[str, Path | None]:
    """A key of ``DATASETS``, and the folder of the files.

    Args:
        data: Where to look; by default in the usual places.

    Raises:
        ValueError: ``data`` is given and holds none.
    """
    for place in [data] if data else PLACES:
        folder = Path(place).expanduser()
        if all((folder / name).is_file() or (folder / f'{name}.gz').is_file() for name in IDX):
            return 'fashion-mnist', folder
        for inner in (folder, folder / 'cifar-10-batches-bin', folder / 'cifar-10-batches-py'):
            if any((inner / name).is_file() for name in CIFAR):
                return 'cifar-10', inner
    if data:
        raise ValueError(f'--data {data}: neither the four IDX files of Fashion-MNIST nor data_batch_1 of CIFAR-10')
    return GENERATED, None


def generate(folder: Path, num: int) -> Path:
    """Write ``num`` images to train on and a quarter to test on, as IDX files, once."""
    if not (folder / 'whole').exists():
        folder.mkdir(parents=True, exist_ok=True)
        for seed, part in enumerate(('train', 't10k')):
            images, labels = stripes(num if part == 'train' else max(num // 4, CLASSES), seed)
            _write_idx(folder / f'{part}-images-idx3-ubyte', images)
            _write_idx(folder / f'{part}-labels-idx1-ubyte', labels)
        (folder / 'whole').touch()
    return folder


def stripes(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stripes (N, 28, 28) of ten directions, the class; phase, width, contrast and noise say nothing of it."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(num) % CLASSES).astype(np.uint8)
    y, x = np.mgrid[:SIDE, :SIDE]
    angle = labels[:, None, None] * (np.pi / CLASSES)
    width, phase, contrast = (rng.uniform(*limits, (num, 1, 1)) for limits in ((0.6, 1.2), (0, 2 * np.pi), (30, 90)))
    waves = contrast * np.sin(width * (np.cos(angle) * x + np.sin(angle) * y) + phase)
    return np.clip(128 + waves + rng.normal(0, 20, waves.shape), 0, 255).astype(np.uint8), labels


def _write_idx(path: Path, array: np.ndarray) -> None:
    path.write_bytes(struct.pack(f'>HBB{array.ndim}I', 0, 8, array.ndim, *array.shape) + array.tobytes())
