"""IDX files of shapes that can be told apart: what Fashion-MNIST is, in miniature."""

import gzip
import struct
from pathlib import Path

import numpy as np


def idx_bytes(array: np.ndarray) -> bytes:
    """An array of unsigned bytes as an IDX file."""
    return struct.pack(f'>HBB{array.ndim}I', 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx_images(
    folder: Path, train: int, test: int, side: int = 28, packed: bool = False, seed: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Writes both splits; a class is a bright bar at an angle of its own, with noise.

    Returns:
        Images (N, side, side) and labels (N,) of ``train`` and ``test``.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = {}, {}
    for name, start, total in (('train', 'train', train), ('test', 't10k', test)):
        labels[name] = (np.arange(total) % 10).astype(np.uint8)
        images[name] = np.stack([_bar(int(label), side, rng) for label in labels[name]])
        for kind, array in (('images-idx3', images[name]), ('labels-idx1', labels[name])):
            data = idx_bytes(array)
            path = folder / f'{start}-{kind}-ubyte{".gz" if packed else ""}'
            path.write_bytes(gzip.compress(data, 1) if packed else data)
    return images, labels


def _bar(label: int, side: int, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2 + rng.normal(0, side / 20, (2, 1, 1))
    angle = np.pi * label / 10
    bar = np.abs(x * np.sin(angle) - y * np.cos(angle)) < side / 8
    return np.clip(180 * bar + rng.normal(30, 20, (side, side)), 0, 255).astype(np.uint8)
