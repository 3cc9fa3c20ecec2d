"""Quality of the backbone on images without augmentation, before the first step and at intervals after it."""

import copy
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mocox import dist
from mocox.datasets import CenterCrop, ViewsDataset, collate_views
from mocox.datasets.resizing import Size
from mocox.datasets.subset import spread
from mocox.evaluation.encoder import evaluation_crops
from mocox.evaluation.features import Frozen, encode_images
from mocox.evaluation.knn import knn_classify
from mocox.monitors.offline_knn import gather_turns
from mocox.monitors.signals import effective_rank

MAX_IMAGES = 512
MAX_CLASSES = 32  # with more, the k-NN classifier would see too few images of each
NUM_NEIGHBOURS = 10
TEMPERATURE = 0.07


class PlainImages:
    """Up to 512 of the training images, always the same, with the crops of an evaluation.

    Args:
        dataset: The training set.
        labels: (N,) of it, or None.
        size: Side of the images in pixels, or (height, width).
        batch_size: Images per forward pass.
    """

    def __init__(self, dataset: ViewsDataset, labels: np.ndarray | None, size: Size, batch_size: int) -> None:
        rows = choose_rows(len(dataset), labels)
        crops = evaluation_crops(size)
        self.dataset = plain = copy.copy(dataset)
        plain.crops, plain.with_labels = CenterCrop(size, crops['resize']), False
        self.labels = None if labels is None else torch.as_tensor(np.asarray(labels)[rows])
        self.num_images = len(rows)
        world, rank = dist.world_size(), dist.rank()
        share = -(-len(rows) // world)  # wrap around, so that all processes have equally many
        own = [rows[(i * world + rank) % len(rows)] for i in range(share)]
        chunks = [own[i : i + batch_size] for i in range(0, share, batch_size)]
        self.batches = [collate_views([plain[0, int(row)] for row in chunk]) for chunk in chunks]

    def measure(self, model: Frozen) -> dict[str, float]:
        """Measure the query backbone's features of readable images; changes neither the model nor random states.

        Returns:
            The same in all processes: ``knn``, accuracy (0 to 1) of a classifier that leaves the image itself out, if
            there are labels; ``effective_rank``; ``alignment``, the mean squared distance of the unit-length features
            of an image and its mirror image (arXiv 2005.10242, equation 4).
        """
        features, read = self._features(model, mirrored=False)
        features, mirrored = features[read], self._features(model, mirrored=True)[0][read]
        pairs = F.normalize(features, dim=1) - F.normalize(mirrored, dim=1)
        found = dict(effective_rank=effective_rank(features), alignment=pairs.square().sum(dim=1).mean())
        if self.labels is not None:
            labels = self.labels.to(features.device)[read]
            num = min(NUM_NEIGHBOURS, len(features) - 1)
            predicted = knn_classify(features, features, labels, num, TEMPERATURE, leave_one_out=True)
            found['knn'] = (predicted == labels).float().mean()
        return {name: float(dist.of_first(value)) for name, value in found.items()}  # GPUs may differ in the last bit

    def _features(self, model: Frozen, mirrored: bool) -> tuple[Tensor, Tensor]:
        own = encode_images(model, _Batches(self.dataset, self.batches, mirrored))
        return gather_turns(own, next(model.parameters()).device, self.num_images)


class _Batches:
    """A loader of batches that have been read already."""

    def __init__(self, dataset: ViewsDataset, batches: list[dict], mirrored: bool) -> None:
        self.dataset, self.batches, self.mirrored = dataset, batches, mirrored

    def __iter__(self) -> Iterator[dict]:
        for batch in self.batches:
            yield dict(batch, inputs=[x.flip(-1) for x in batch['inputs']]) if self.mirrored else dict(batch)


def choose_rows(num_images: int, labels: np.ndarray | None) -> list[int]:
    """Choose rows evenly from the data set; with labels, equally many from each of at most 32 classes."""
    if labels is None:
        return spread(num_images, MAX_IMAGES)
    found = np.unique(labels)
    classes = found[spread(len(found), MAX_CLASSES)]
    share = MAX_IMAGES // len(classes)
    of_class = (np.flatnonzero(np.asarray(labels) == label) for label in classes)
    return sorted(int(rows[i]) for rows in of_class for i in spread(len(rows), share))
