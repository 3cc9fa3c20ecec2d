"""Image files and folders named on the command line, as one data set."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

from mocox.datasets import ImageFiles, ViewsDataset, collate_views
from mocox.datasets.folders import scan
from mocox.datasets.packed_paths import PackedPaths
from mocox.evaluation.encoder import LoadedEncoder


class ImagePlaces(ImageFiles):
    """Files as they are, and all images of folders with their subfolders, in the order of the places.

    Args:
        places: Files and folders.
        loaded: Says how images are read and cut.

    Raises:
        FileNotFoundError: There is neither a file nor a folder of that name.
        ValueError: A folder without images, or nothing that can be read.
    """

    def __init__(self, places: Sequence[str | Path], loaded: LoadedEncoder) -> None:
        self.places = [os.path.expanduser(place) for place in places]
        if not self.places:
            raise ValueError('there are no images')
        for place in self.places:
            if not os.path.exists(place):
                raise FileNotFoundError(f'there is no image or folder {place}')
        super().__init__('.', loaded.crops, splits=False, **loaded.pixels.settings())

    def path(self, index: int) -> str:
        """The path as the user named it."""
        return os.fsdecode(self._paths[index])

    def is_named(self, path: str) -> bool:
        """True if the user named this very file."""
        return path in self.places

    def _find(self, list_file: str | None) -> tuple[PackedPaths, np.ndarray | None]:
        self.left_out.clear()
        return PackedPaths(os.fsencode(path) for place in self.places for path in self._files(place)), None

    def _files(self, place: str) -> list[str]:
        if not os.path.isdir(place):
            return [place]
        found = [os.path.join(place, name) for name in scan(place, self.left_out)]
        if not found:
            raise ValueError(f'no images in {place!r}, nor in its subfolders')
        return found


def loader_of(dataset: ViewsDataset, batch_size: int, num_workers: int) -> DataLoader:
    """Its images in order."""
    return DataLoader(dataset, batch_size, num_workers=num_workers, collate_fn=collate_views)
