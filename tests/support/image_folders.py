"""Folders of small images, each of its own gray level."""

from pathlib import Path

import numpy as np
from PIL import Image

from mocox.datasets import ImageFiles


def write_image(path: Path, level: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (12, 10), (level, level, level)).save(path, 'PNG')


def make_files(root: Path, *names: str) -> None:
    for number, name in enumerate(sorted(names)):
        write_image(root / name, number)


def level_shown(item: dict) -> int:
    """Which of :func:`make_files`'s images an item shows."""
    (level,) = np.unique(item['inputs'][0])
    return int(level)


def names(dataset: ImageFiles) -> list[str]:
    return [str(Path(dataset.path(index)).relative_to(dataset.folder)) for index in range(len(dataset))]
