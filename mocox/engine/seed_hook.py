"""Randomness inside the model, as a function of seed, epoch and process."""

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mocox import dist
from mocox.registry import HOOKS


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Seed torch at the start of every epoch, so that a resumed run drops the same paths as an uninterrupted one.

    Crops and augmentation do not need it: their randomness belongs to the sample. Stochastic depth and dropout draw
    from torch's generators, whose state no checkpoint holds.
    """

    priority = 'VERY_HIGH'

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed from (seed of the run, epoch, rank)."""
        entropy = np.random.SeedSequence([runner.seed, runner.epoch, dist.rank()])
        torch.manual_seed(int(entropy.generate_state(1)[0]))
