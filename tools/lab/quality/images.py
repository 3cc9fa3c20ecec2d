"""The images of a contest: the same views, in the same order, for every contestant; plain images for the judge."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor

from mocox.datasets import collate_views
from mocox.registry import DATASETS, MODELS


class Labelled(NamedTuple):
    """Args: plain images (N, C, S, S), normalised as the views are, and their labels (N,)."""

    images: Tensor
    labels: np.ndarray


class Images:
    """Images of a recipe to pre-train on, and others to test on.

    Args:
        config: The recipe whose data set, crops, views and normalisation all contestants get.
        data_root: Where the images lie.
        train: Images to pre-train on and to judge from: the first so many.
        held_out: Of the training images that follow, from image ``first_held_out`` on; None: the test images.
        first_held_out: The same for every size of the training part.
        seed: Of crops, draws and order.
    """

    def __init__(
        self, config: Config, data_root: str, train: int, held_out: int | None, first_held_out: int, seed: int
    ) -> None:
        if held_out is not None and train > first_held_out:
            raise ValueError(f'{train} images to train on reach into those held out, which start at {first_held_out}')
        settings = dict(config.train_dataloader.dataset, data_root=data_root, with_labels=True, seed=seed)
        size = settings['crops']['size']
        plain = dict(settings, crops=dict(type='CenterCrop', size=size, resize=size))
        tests = dict(split='test') if held_out is None else dict(part=(first_held_out, first_held_out + held_out))
        with DefaultScope.overwrite_default_scope('mocox'):
            self.dataset = DATASETS.build(settings | dict(part=(0, train)))
            self.preprocessor = MODELS.build(config.data_preprocessor)
            normalise = MODELS.build(dict(config.data_preprocessor, type='LabelledPreprocessor', views=[{}]))
            self.train, self.test = (
                _labelled(DATASETS.build(plain | part), normalise) for part in (dict(part=(0, train)), tests)
            )
        self.seed = seed

    def views(self, batch_size: int) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Batches without end: views V x (B, C, S, S) and labels (B,); a last one that is not full is left out."""
        if batch_size > len(self.dataset):
            raise ValueError(f'a batch of {batch_size} from {len(self.dataset)} images')
        epoch = 0
        while True:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset))
            for start in range(0, len(order) - batch_size + 1, batch_size):
                samples = [self.dataset[epoch, int(i)] for i in order[start : start + batch_size]]
                batch = collate_views(samples)
                yield self.preprocessor(batch, training=True)['inputs'], batch['label']
            epoch += 1


def _labelled(dataset, normalise) -> Labelled:
    batches = [
        normalise(collate_views([dataset[i] for i in range(start, min(start + 500, len(dataset)))]))['inputs']
        for start in range(0, len(dataset), 500)
    ]
    views = [batch[0] if isinstance(batch, list) else batch for batch in batches]
    return Labelled(torch.cat(views), np.asarray(dataset.labels))
