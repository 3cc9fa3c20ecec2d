"""MoCo v1 and v2."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mocox import dist
from mocox.models.algorithms.base import MomentumContrast
from mocox.models.batch_norm import SplitBatchNorm, SyncBatchNorm
from mocox.models.key_queue import KeyQueue
from mocox.models.shuffle_bn import draw_permutation, shuffle_rows, unshuffle_rows
from mocox.registry import MODELS
from mocox.schedules import info_nce_floor, queue_chance_level


@MODELS.register_module()
class MoCo(MomentumContrast):
    """Momentum Contrast with a queue of keys (v1: arXiv 1911.05722, v2: arXiv 2003.04297).

    The queries of one view are contrasted with the momentum encoder's keys of the other and with the queue's older
    keys. v1 and v2 are the same algorithm with other projectors, temperatures and augmentations.

    Args:
        backbone: Module or config of the query backbone.
        neck: Module or config of the projector.
        head: Module or config of the contrastive head, with its temperature.
        queue_len: Keys in the queue.
        feat_dim: Width of a key, the projector's output.
        base_momentum: Weight of the old key encoder.
        symmetric: Contrast both views with each other's keys, the mean of both losses, with a queue for each view's
            keys ("v2+").
        kwargs: See :class:`MomentumContrast`; with ``chunk_size``, BatchNorm normalises chunks, and keys are shuffled
            between them.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module,
        head: dict | nn.Module,
        queue_len: int = 65536,
        feat_dim: int = 128,
        base_momentum: float = 0.999,
        symmetric: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone, neck, head, base_momentum, **kwargs)
        self.queue = KeyQueue(queue_len, feat_dim)
        self.queue_x1 = KeyQueue(queue_len, feat_dim) if symmetric else None
        self.warned = False
        self.draw_permutation = draw_permutation  # a trace puts its recorded permutations here

    def loss(self, inputs: list[Tensor], data_samples: list | None = None) -> dict[str, Tensor]:
        """InfoNCE of the first view's queries against the second view's keys and the queue, or of both directions.

        Args:
            inputs: The two views x1, x2, each (N, 3, S, S).
            data_samples: Unused: the method has no labels.

        Returns:
            ``{'loss': scalar in nats}``.
        """
        x1, x2 = inputs
        if self.training and not self.warned:
            self.warned = True
            warn_of_leaking_statistics(self, len(x1))
        queues = [self.queue] if self.queue_x1 is None else [self.queue, self.queue_x1]
        # In the order of the views, as published: that is the order in which BatchNorm's running statistics move.
        keys = self.gather_keys([x1, x2][-len(queues) :])
        queries = self.encode_queries([x1, x2][: len(queues)])
        losses = []
        for z, k, queue in zip(queries, reversed(keys()), queues, strict=True):
            if z.shape[1] != len(queue.keys):
                raise ValueError(
                    f'feat_dim={len(queue.keys)}, but the neck gives {z.shape[1]} channels: set model.feat_dim to that'
                )
            negatives = queue.keys.T.clone()  # (K, D), before this batch; the backward pass needs them unchanged
            losses.append(self.head.loss(z, k, negatives))
            queue.enqueue(k)
        return {'loss': sum(losses) / len(losses)}

    @torch.no_grad()
    def encode_keys(self, views: list[Tensor], interleave: bool = True) -> list[Tensor]:
        """As in the base; company is mixed by shuffling, and ``SplitBN`` groups in chunks as it does in the batch."""
        return super().encode_keys(views, interleave and self.batch_norm)

    def gather_keys(self, views: list[Tensor]) -> Callable[[], tuple[Tensor, ...]]:
        """As in the base, normalised in shuffled batches where the backbone has BatchNorm (a neck's is on purpose)."""
        if not self.batch_norm:
            return super().gather_keys(views)
        order = self.draw_permutation(len(views[0]) * dist.world_size(), self.iteration)
        shuffled = shuffle_rows(torch.stack(views, dim=1), order).unbind(dim=1)
        wait = super().gather_keys(list(shuffled))
        return lambda: tuple(unshuffle_rows(k, order) for k in wait())

    @classmethod
    def levels(cls, num_keys: int, temperature: float, num_random: int = 0) -> tuple[float, float]:
        """Chance and floor in nats; the positive key is not in the queue."""
        length = num_keys - 1
        chance = queue_chance_level(length - num_random, length, temperature)
        return chance, info_nce_floor(num_keys, temperature)

    def num_keys(self, batch_size: int) -> int:
        """Keys that each query is compared with, its positive one among them."""
        return 1 + len(self.queue)

    def queue_fill(self) -> float:
        """The real keys' share of the queue."""
        return int(self.queue.filled) / len(self.queue)


def warn_of_leaking_statistics(model: MoCo, batch_size: int) -> None:
    """Warn if queries and their keys share the backbone's BatchNorm statistics (arXiv 1911.05722, section 3.3)."""
    if model.chunk_size is not None and model.chunk_size < batch_size:
        return
    layers = [m for m in model.momentum_encoder.backbone.modules() if isinstance(m, _BatchNorm)]
    split = [m for m in layers if isinstance(m, SplitBatchNorm)]
    if not layers or any(m.num_groups(batch_size) > 1 for m in split):
        return
    if any(isinstance(m, SyncBatchNorm | nn.SyncBatchNorm) for m in layers):
        cause = 'SyncBN normalises the images of all processes together'
    elif dist.world_size() > 1:
        return
    elif split:
        cause = f'SplitBN makes a single group of {split[0].group_size} or more of a batch of {batch_size}'
    else:
        cause = 'one process normalises the whole batch at once'
    warnings.warn(
        f'Shuffling BatchNorm has no effect here: {cause}, so that queries and keys share their statistics and the '
        "model may solve the task by those. Use norm_cfg=dict(type='mocox.SplitBN', group_size=G) in the backbone with "
        'a batch per process that is a multiple of G, at least 2 * G (the papers have G = 32).',
        stacklevel=2,
    )
