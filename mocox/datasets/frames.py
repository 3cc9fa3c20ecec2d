"""Count images where each frame of a file is one."""

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from mocox.datasets.census import ORDINARY
from mocox.datasets.dicom import count_frames

if TYPE_CHECKING:
    from mocox.datasets.encoded_images import EncodedImages

NUM_THREADS = 16  # files that are read at the same time


def count_all_frames(images: 'EncodedImages') -> np.ndarray:
    """Frames of every file (N,), at least 1. Reads them all, but those whose ending says that they have one."""

    def count(index: int) -> int:
        if images._paths[index].lower().endswith(ORDINARY):
            return 1
        try:
            return count_frames(images.read_bytes(index))
        except Exception:  # what cannot be read is said when it is its turn
            return 1

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return np.array(list(pool.map(count, range(len(images)))), np.int64)
