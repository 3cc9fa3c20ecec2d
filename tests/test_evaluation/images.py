"""Folders of tiny images whose class is easy to see: bright or dark."""

from pathlib import Path

import numpy as np
from PIL import Image

LEVELS = {'bright': 200, 'dark': 20, 'middle': 110}


def write_images(folder: Path, side: int = 8, **splits: tuple[int, ...]) -> None:
    """Writes ``folder/SPLIT/CLASS/N.png``; ``train=(8, 6)`` is 8 bright and 6 dark images."""
    generator = np.random.default_rng(0)
    for split, counts in splits.items():
        for (name, level), count in zip(LEVELS.items(), counts):
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                pixels = generator.integers(level, level + 50, (side, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f'{index}.png')
