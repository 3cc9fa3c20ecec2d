"""Samplers: the samples of a process in an epoch, and the epoch itself for the workers."""

from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, Sampler

from mocox import dist
from mocox.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class EpochSampler(Sampler):
    """Yields ``(epoch, index)``, so that workers that live for many epochs know which one it is.

    The order is a function of (seed, epoch); rank r of W takes every W-th index from r on. The first B indices of all
    W ranks are the first W * B of one process: a larger world with the same total batch sees the same batches.

    Args:
        dataset: Only its length counts.
        shuffle: A new permutation in every epoch, or the order of the dataset.
        seed: The same on all ranks; MMEngine passes that of the run. None counts as 0.
        round_up: What to do when W does not divide the length. False drops the last ``length % W`` of the order
            (training). True repeats its beginning, so that no sample is missed (evaluation).
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None, round_up: bool = False) -> None:
        self.rank, self.world_size = dist.rank(), dist.world_size()
        self.num_images = len(dataset)
        if self.num_images < self.world_size and not round_up:
            raise ValueError(f'{self.num_images} images cannot be shared by {self.world_size} processes: start fewer')
        self.shuffle = shuffle
        self.seed = seed or 0
        self.round_up = round_up
        self.epoch = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.num_images)
        if self.shuffle:
            np.random.default_rng(np.random.SeedSequence([self.seed, self.epoch])).shuffle(order)
        order = np.resize(order, len(self) * self.world_size)  # truncates, or repeats from the start
        return ((self.epoch, int(index)) for index in order[self.rank :: self.world_size])

    def __len__(self) -> int:
        extra = self.world_size - 1 if self.round_up else 0
        return (self.num_images + extra) // self.world_size

    def set_epoch(self, epoch: int) -> None:
        """Called by MMEngine's DistSamplerSeedHook before every epoch."""
        self.epoch = epoch


def skip_batches(loader: DataLoader, num_batches: int) -> None:
    """Skip the first batches of a loader's next epoch, without reading their images.

    An iterable dataset has no list of batches to begin in: its method ``skip_images(num_images)``, with the number in
    this process, says where its next epoch begins.

    Raises:
        TypeError: An iterable dataset without that method.
    """
    batches = loader.batch_sampler
    if batches is not None and not isinstance(loader.dataset, IterableDataset):
        # torch forbids to assign it: an iterator at work would not see it. None is at work before the first epoch.
        vars(loader)['batch_sampler'] = _LaterBatches(batches, num_batches)
    elif loader.batch_size is not None and hasattr(loader.dataset, 'skip_images'):
        loader.dataset.skip_images(num_batches * loader.batch_size)
    else:
        raise TypeError(
            f'{type(loader.dataset).__name__} cannot begin in the middle of an epoch: give it a method '
            'skip_images(num_images), or continue from a checkpoint saved at the end of an epoch'
        )


class _LaterBatches:
    """A batch sampler without its first batches, once; then whole."""

    def __init__(self, batches: Iterable[list], num_skipped: int) -> None:
        self.batches = batches
        self.num_skipped = num_skipped

    def __iter__(self) -> Iterator[list]:
        # Runs with the first batch asked for: a loader with workers makes two iterators and uses the second.
        start, self.num_skipped = self.num_skipped, 0
        yield from islice(self.batches, start, None)

    def __len__(self) -> int:
        if not isinstance(self.batches, Sized):
            raise TypeError(f'{type(self.batches).__name__} has no length')
        return len(self.batches)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.batches, name)
