"""Image files whose labels stand in the annotation files of a public data set: Flowers-102, Pets, iNaturalist."""

import json
import os
from typing import Any

import numpy as np

from mocox.datasets.base import Crops
from mocox.datasets.image_files import ImageFiles
from mocox.datasets.packed_paths import PackedPaths
from mocox.registry import DATASETS


class AnnotatedImages(ImageFiles):
    """Image files listed, with labels, by a file of a public data set; a subclass reads it (:meth:`read_annotations`).

    Args:
        data_root: The folder with the unpacked archives.
        split: The split.
        crops: Config of the transform that cuts the views.
        with_labels: Whether items have a label.
        seed: Seed of crops and draws; None takes that of the run.
        pixels: ``channels``, ``value_range`` and ``depth`` of :class:`~mocox.datasets.Pixels`.
    """

    folder_name = ''  # below data_root, the images; paths are relative to it
    url = ''

    def __init__(
        self,
        data_root: str,
        split: str,
        crops: dict | Crops,
        with_labels: bool = False,
        seed: int | None = None,
        **pixels: Any,
    ) -> None:
        self.root, self.split = os.path.expanduser(data_root), split
        if not os.path.isdir(os.path.join(self.root, self.folder_name)):
            self._raise_missing(os.path.join(self.root, self.folder_name))
        super().__init__(data_root, crops, self.folder_name, with_labels=with_labels, seed=seed, **pixels)

    def read_annotations(self) -> tuple[list[str], list[int], list[str] | None]:
        """Paths relative to the image folder, labels from 0, class names in their order if there are names."""
        raise NotImplementedError

    def annotation_file(self, *names: str) -> str:
        """The path of an annotation file.

        Raises:
            FileNotFoundError: It does not exist; says where to get it.
        """
        path = os.path.join(self.root, *names)
        if not os.path.isfile(path):
            self._raise_missing(path)
        return path

    def _raise_missing(self, path: str) -> None:
        raise FileNotFoundError(
            f'{type(self).__name__}: there is no {path}. Unpack the archives of {self.url} into one folder and pass '
            '--data-root DIR or set data_root'
        )

    def _find(self, list_file: str | None) -> tuple[PackedPaths, np.ndarray | None]:
        paths, labels, self.classes = self.read_annotations()
        if not paths:
            raise ValueError(f'{type(self).__name__}: the annotations in {self.root!r} name no images')
        return PackedPaths(map(os.fsencode, paths)), np.array(labels) if self.with_labels else None


@DATASETS.register_module()
class FlowersImages(AnnotatedImages):
    """Flowers-102: ``jpg/``, ``imagelabels.mat`` and ``setid.mat``.

    Source: Automated Flower Classification over a Large Number of Classes (Nilsback and Zisserman, 2008). Splits:
    ``train`` and ``val`` (10 images per class each), ``trainval``, ``test``.
    """

    folder_name = 'jpg'
    url = 'https://www.robots.ox.ac.uk/~vgg/data/flowers/102/'
    splits = dict(train=['trnid'], val=['valid'], trainval=['trnid', 'valid'], test=['tstid'])

    def read_annotations(self) -> tuple[list[str], list[int], None]:
        keys = _one_of_splits(self.split, self.splits)
        labels = _read_mat(self.annotation_file('imagelabels.mat'), 'labels')
        split = self.annotation_file('setid.mat')
        numbers = np.concatenate([_read_mat(split, key) for key in keys])
        if numbers.max() > len(labels):
            raise ValueError(f'{split!r} names image {numbers.max()}, but imagelabels.mat has {len(labels)} labels')
        return [f'image_{number:05d}.jpg' for number in numbers], [int(labels[n - 1]) - 1 for n in numbers], None


@DATASETS.register_module()
class PetsImages(AnnotatedImages):
    """Oxford-IIIT Pets with 37 breeds: ``images/`` and ``annotations/``; splits ``trainval`` and ``test``.

    Source: Cats and Dogs (Parkhi et al., 2012).
    """

    folder_name = 'images'
    url = 'https://www.robots.ox.ac.uk/~vgg/data/pets/'
    splits = dict(trainval='trainval.txt', test='test.txt')

    def read_annotations(self) -> tuple[list[str], list[int], list[str]]:
        path = self.annotation_file('annotations', _one_of_splits(self.split, self.splits))
        with open(path, encoding='utf-8') as file:
            lines = [line.split() for line in file if line.strip() and not line.startswith('#')]
        wrong = next((line for line in lines if len(line) < 2 or not line[1].isdigit() or line[1] == '0'), None)
        if wrong:
            raise ValueError(f'{path!r}: {" ".join(wrong)!r} is not "NAME CLASS SPECIES BREED"')
        breeds = {int(line[1]): line[0].rpartition('_')[0] for line in lines}
        names = [breeds.get(number, f'class {number}') for number in range(1, max(breeds, default=0) + 1)]
        return [f'{line[0]}.jpg' for line in lines], [int(line[1]) - 1 for line in lines], names


@DATASETS.register_module()
class INaturalistImages(AnnotatedImages):
    """iNaturalist 2018: ``train_val2018/`` with ``train2018.json`` or ``val2018.json``; 8,142 species.

    Source: The iNaturalist Species Classification and Detection Dataset (Van Horn et al., 2018). ``split`` is the name
    of the JSON file without its ending, so that the files of 2017, 2019 and 2021 are read as well.
    """

    url = 'https://github.com/visipedia/inat_comp/tree/master/2018'

    def read_annotations(self) -> tuple[list[str], list[int], list[str]]:
        path = self.annotation_file(f'{self.split}.json')
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
        missing = {'images', 'annotations', 'categories'} - set(content)
        if missing:
            raise ValueError(f'{path!r} has no {sorted(missing)}: labels need the files of the train or val split')
        label_of = {category: label for label, category in enumerate(sorted(c['id'] for c in content['categories']))}
        names = [c.get('name', str(c['id'])) for c in sorted(content['categories'], key=lambda c: c['id'])]
        category_of = {entry['image_id']: entry['category_id'] for entry in content['annotations']}
        images = [image for image in content['images'] if image['id'] in category_of]
        return [image['file_name'] for image in images], [label_of[category_of[i['id']]] for i in images], names


def _one_of_splits(split: str, splits: dict[str, Any]) -> Any:
    if split not in splits:
        raise ValueError(f'split must be one of {list(splits)}, got {split!r}')
    return splits[split]


def _read_mat(path: str, key: str) -> np.ndarray:
    from scipy.io import loadmat  # comes with scikit-learn

    try:
        content = loadmat(path)
    except Exception as error:  # whatever SciPy makes of damaged bytes
        raise ValueError(f'{path!r} is not a MATLAB file ({error}): download it again') from error
    if key not in content:
        raise ValueError(f'{path!r} has no {key!r}: is it a file of another data set?')
    return content[key].ravel()
