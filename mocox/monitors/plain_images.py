"""What the backbone is worth on images without augmentation: before the first step, and now and then after it."""

import copy
from collections.abc import Sized

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mocox import dist
from mocox.datasets import CenterCrop, ViewsDataset, collate_views
from mocox.evaluation.encoder import evaluation_crops
from mocox.evaluation.features import extract_from_loader
from mocox.evaluation.knn import knn_classify
from mocox.monitors.signals import effective_rank
from mocox.processes import group

MAX_IMAGES = 512
MAX_CLASSES = 32  # of more, the k-NN classifier would see a few images each and say nothing
NUM_NEIGHBOURS = 10
TEMPERATURE = 0.07


class PlainImages:
    """Up to 512 of the training images, cut as for an evaluation and always the same ones.

    Args:
        dataset: The training set.
        labels: (N,) of it, or None.
        size: Side of the images in pixels.
        batch_size: Images per forward pass.
    """

    def __init__(self, dataset: ViewsDataset, labels: np.ndarray | None, size: int, batch_size: int) -> None:
        rows = choose_rows(len(dataset), labels)
        crops = evaluation_crops(size)
        plain = copy.copy(dataset)
        plain.crops, plain.with_labels = CenterCrop(size, crops['resize']), False
        self.labels = None if labels is None else torch.as_tensor(np.asarray(labels)[rows])
        self.num_images = len(rows)
        world, rank = dist.world_size(), dist.rank()
        share = -(-len(rows) // world)  # the last ones wrap around, so that all processes have as many
        own = [rows[(i * world + rank) % len(rows)] for i in range(share)]
        chunks = [own[i : i + batch_size] for i in range(0, share, batch_size)]
        self.batches = [collate_views([plain[0, int(row)] for row in chunk]) for chunk in chunks]

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Of the query backbone's features, the same on all processes; the model and random numbers stay as they are.

        Returns:
            ``knn``, accuracy (0 to 1) of a classifier that leaves the image itself out, if there are labels;
            ``effective_rank``; ``alignment``, the mean squared distance of the unit-length features of an image and its
            mirror image (arXiv 2005.10242, equation 4).
        """
        features = self._features(model, mirrored=False)
        mirrored = self._features(model, mirrored=True)
        pairs = F.normalize(features, dim=1) - F.normalize(mirrored, dim=1)
        found = dict(effective_rank=effective_rank(features), alignment=pairs.square().sum(dim=1).mean())
        if self.labels is not None:
            labels = self.labels.to(features.device)
            num = min(NUM_NEIGHBOURS, len(features) - 1)
            predicted = knn_classify(features, features, labels, num, TEMPERATURE, leave_one_out=True)
            found['knn'] = (predicted == labels).float().mean()
        return {name: float(dist.of_first(value)) for name, value in found.items()}  # GPUs may differ in the last bit

    def _features(self, model: nn.Module, mirrored: bool) -> Tensor:
        own = extract_from_loader(model, _Batches(self.batches, mirrored))[0]
        group.meet()
        gathered = dist.gather_rows(own.to(next(model.parameters()).device))
        in_order = gathered.view(dist.world_size(), len(own), -1).transpose(0, 1).flatten(0, 1)
        return in_order[: self.num_images]


class _Batches:
    """Stands for a loader: what has been read once."""

    dataset: Sized = ()

    def __init__(self, batches: list[dict], mirrored: bool) -> None:
        self.batches, self.mirrored = batches, mirrored

    def __iter__(self):
        for batch in self.batches:
            yield dict(batch, inputs=[x.flip(-1) for x in batch['inputs']]) if self.mirrored else dict(batch)


def choose_rows(num_images: int, labels: np.ndarray | None) -> list[int]:
    """Evenly spread over the data set; with labels over at most 32 of the classes, each with as many."""
    if labels is None:
        return _spread(range(num_images), MAX_IMAGES)
    found = np.unique(labels)
    classes = [found[i] for i in _spread(range(len(found)), MAX_CLASSES)]
    share = MAX_IMAGES // len(classes)
    return sorted(row for label in classes for row in _spread(np.flatnonzero(np.asarray(labels) == label), share))


def _spread(items, limit: int) -> list[int]:
    count = min(len(items), limit)
    return [int(items[i * len(items) // count]) for i in range(count)]
