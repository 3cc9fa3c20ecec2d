"""The images of PASCAL VOC 2007 with all their labels, as its authors publish them."""

import os
from xml.etree import ElementTree

import numpy as np

from mocox.datasets.base import Crops
from mocox.datasets.encoded_images import EncodedImages
from mocox.datasets.image_files import read_regular_file
from mocox.datasets.packed_paths import PackedPaths
from mocox.registry import DATASETS

CLASSES = [
    *('aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow'),
    *('diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor'),
]
FOLDERS = ('', 'VOC2007', os.path.join('VOCdevkit', 'VOC2007'))
PARTS = ('Annotations', 'ImageSets/Main', 'JPEGImages')


@DATASETS.register_module()
class VOC07Images(EncodedImages):
    """Images of a split and, for each of the 20 classes, whether they show it.

    Source: The PASCAL Visual Object Classes Challenge 2007 (Everingham et al.), http://host.robots.ox.ac.uk/pascal/VOC.
    A label is (20,) with 1 present, 0 only as objects marked difficult, -1 absent: the signs of its ``ImageSets``.

    Args:
        data_root: The folder with ``Annotations``, ``ImageSets`` and ``JPEGImages``, or one above it.
        crops: Config of the transform that cuts the views.
        split: ``trainval``, ``train``, ``val`` or ``test``.
        with_labels: Whether items have a label.
        seed: Seed of crops and draws; None takes that of the run.
    """

    def __init__(
        self,
        data_root: str,
        crops: dict | Crops,
        split: str = 'trainval',
        with_labels: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__(crops, with_labels, CLASSES, seed)
        folder = find_voc07(data_root)
        if folder is None:
            raise FileNotFoundError(
                f'no VOC 2007 in {data_root!r}: {", ".join(PARTS)} are neither there nor in VOCdevkit/VOC2007. Unpack '
                'the archives of the challenge and pass --data-root DIR or set data_root'
            )
        self.folder = folder
        list_file = os.path.join(self.folder, 'ImageSets', 'Main', f'{split}.txt')
        if not os.path.isfile(list_file):
            raise FileNotFoundError(f'VOC 2007 in {self.folder!r} has no split {split!r}: there is no {list_file}')
        with open(list_file) as file:
            names = file.read().split()
        if not names:
            raise ValueError(f'{list_file!r} names no images: unpack the archive again')
        labels = np.stack([self._read_labels(name) for name in names]) if with_labels else None
        paths = PackedPaths(os.fsencode(f'JPEGImages/{name}.jpg') for name in names)
        self.set_images(paths, labels, repr(list_file))

    def path(self, index: int) -> str:
        """The path of one image."""
        return os.path.join(self.folder, super().path(index))

    def read_bytes(self, index: int) -> bytes:
        """Read one file."""
        return read_regular_file(self.path(index))

    def _read_labels(self, name: str) -> np.ndarray:
        path = os.path.join(self.folder, 'Annotations', f'{name}.xml')
        try:
            objects = ElementTree.parse(path).findall('object')
        except ElementTree.ParseError as error:
            raise ValueError(f'{path!r} is not a VOC annotation ({error}): unpack the archive again') from error
        labels = np.full(len(CLASSES), -1)
        for item in objects:
            kind = item.findtext('name')
            if kind not in CLASSES:
                raise ValueError(f'{path!r} has an object of class {kind!r}, which VOC 2007 does not have')
            is_difficult = item.findtext('difficult', '0').strip() == '1'
            labels[CLASSES.index(kind)] = max(labels[CLASSES.index(kind)], 0 if is_difficult else 1)
        return labels


def find_voc07(root: str) -> str | None:
    """The folder below ``root`` that holds VOC 2007, if there is one."""
    folders = [os.path.join(os.path.expanduser(root), folder).rstrip(os.sep) for folder in FOLDERS]
    return next((f for f in folders if all(os.path.isdir(os.path.join(f, part)) for part in PARTS)), None)
