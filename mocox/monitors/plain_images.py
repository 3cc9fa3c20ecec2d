"""Quality of the backbone on images without augmentation, before the first step and at intervals after it."""

import copy
import time
from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.runner import Runner
from torch import Tensor

from mocox import dist
from mocox.datasets import CenterCrop, ViewsDataset, collate_views
from mocox.datasets.resizing import Size
from mocox.datasets.subset import spread
from mocox.evaluation.encoder import evaluation_crops
from mocox.evaluation.features import Frozen, encode_images
from mocox.evaluation.knn import knn_classify
from mocox.monitors.learning_state import TrainingState
from mocox.monitors.offline_knn import gather_turns
from mocox.monitors.readings import Plain
from mocox.monitors.signals import effective_rank
from mocox.monitors.start import BETTER, compare

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


class PlainMonitor:
    """Compares a run with what it started from, before the first step and 20 times or more after it.

    Args:
        machine: Gets what is measured.
        batch_size: Images per forward pass.
    """

    def __init__(self, machine: TrainingState, batch_size: int) -> None:
        self.machine, self.batch_size = machine, batch_size
        self.is_possible, self.was_better = True, False

    def begin(self, runner: Runner) -> None:
        """Forget the images of an earlier training."""
        self.images: PlainImages | None = None
        self.interval = max(min(runner.max_iters // 20, 1000), 1)

    def open(self, runner: Runner, model: Frozen, labels: Tensor | None, data_batch: Any) -> None:
        """Open the images with the first batch, whose size they get, and measure before the first step of a run."""
        if self.images is not None or not self.is_possible:
            return
        dataset = runner.train_dataloader.dataset
        inputs = data_batch.get('inputs') if isinstance(data_batch, dict) else None
        if not isinstance(dataset, ViewsDataset) or not isinstance(dataset, Sized) or not inputs:
            self.is_possible = False
            return
        try:
            began = time.monotonic()
            known = None if labels is None else labels.numpy()
            self.images = PlainImages(dataset, known, tuple(inputs[0].shape[-2:]), self.batch_size)
            if self.machine.start is None:
                self._measure(runner, model, self.images, 0)
                if start := self.machine.start:
                    seconds = time.monotonic() - began
                    runner.logger.info(
                        f'before the first step: {start} ({start.num_images} plain images, {seconds:.1f} s)'
                    )
        except Exception as error:  # a failing monitor must not end the run
            self.is_possible, self.images = False, None
            runner.logger.warning(
                f'default_hooks.monitor.plain: no comparison with the start: {error}. Training continues'
            )

    def measure_if_due(self, runner: Runner, model: Frozen) -> None:
        """Measure after every ``interval`` iterations, and after the last one."""
        done = runner.iter + 1
        if self.images and (done % self.interval == 0 or done == runner.max_iters):
            self._measure(runner, model, self.images, done)

    def _measure(self, runner: Runner, model: Frozen, images: PlainImages, iteration: int) -> None:
        try:
            found = Plain(images.num_images, **images.measure(model))
        except Exception as error:  # features of a diverging run are not finite: the other monitors report that
            runner.logger.debug(f'No measurement on plain images at iteration {iteration}: {error}')
            return
        self.machine.measured(iteration, found)
        scalars = dict(plain_effective_rank=found.effective_rank, plain_alignment=found.alignment)
        if found.knn is not None:
            now = scalars['knn_plain'] = 100 * found.knn
            start = self.machine.start
            if start is not None and start.knn is not None:  # a run may have got its labels after its start
                first = scalars['knn_start'] = 100 * start.knn
                if compare(start, found) == BETTER and self.machine.warm and not self.was_better:
                    self.was_better = True
                    gained = f'{now:.0f} % after {first:.0f} %'
                    runner.logger.info(f'iteration {iteration}: {BETTER}: k-NN on plain images {gained}')
        for name, value in scalars.items():
            runner.message_hub.update_scalar(f'train/{name}', value)


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
