"""Which samples a process sees in an epoch, and the epoch itself, for the workers."""

from collections.abc import Iterator, Sized

import numpy as np
from torch.utils.data import Sampler

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
