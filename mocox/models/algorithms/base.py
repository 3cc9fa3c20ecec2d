"""Base of MoCo v1, v2 and v3: a query encoder, its momentum copy, a head."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from mmengine.logging import MMLogger, print_log
from mmengine.model import BaseModel
from torch import Tensor, nn

from mocox import dist
from mocox.models.chunks import describe_statistics, encode_in_chunks, has_batch_norm
from mocox.models.compilation import compile_blocks
from mocox.models.heads import l2_normalize
from mocox.models.layout import last_output, require_layout
from mocox.models.momentum_encoder import MomentumEncoder
from mocox.models.necks import average_positions, project_views
from mocox.models.parts import build_on, build_part
from mocox.registry import MODELS


def build_preprocessor(config: dict | nn.Module | None) -> Any:
    """Build a preprocessor in our scope: MMEngine's BaseModel would use the default scope, and there may be none."""
    return MODELS.build(config) if isinstance(config, dict) and 'type' in config else config


def average_logs(log_vars: dict[str, Tensor]) -> dict[str, Tensor]:
    """Average the logged values over all processes, in one collective."""
    means = torch.stack([value.detach() for value in log_vars.values()])
    return dict(zip(log_vars, dist.all_reduce_sum(means) / dist.world_size(), strict=True))


class LoggedModel(BaseModel):
    """A model whose logs are means over all processes, and whose list of initial weights goes into a log file only."""

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to train on and what is logged: the mean over all processes."""
        loss, log_vars = super().parse_losses(losses)
        return loss, average_logs(log_vars)

    def _dump_init_info(self) -> None:
        """Keep MMEngine from printing a line per parameter where no run has opened a log file."""
        if any(isinstance(handler, logging.FileHandler) for handler in MMLogger.get_current_instance().handlers):
            super()._dump_init_info()


class MomentumContrast(LoggedModel):
    """Base of the algorithms. The forward pass is pure: only ``MomentumUpdateHook`` moves the momentum encoder.

    Args:
        backbone: The query backbone, a module or its config: gives a vector (B, C) or a map (B, C, H, W) per image, or
            a tuple of these, last one used.
        neck: The projector, a module or its config, whose ``in_channels`` may be left out.
        head: The contrastive head, a module or its config.
        base_momentum: Weight of the old key encoder in its update (the papers' convention), in [0, 1].
        chunk_size: Images per pass through the backbone, see :func:`~mocox.models.chunks.encode_in_chunks`. Exact
            without BatchNorm in the backbone; otherwise it takes its statistics from the chunk.
        merge_views: Pass both views at once through a backbone without BatchNorm and through the projector's linear
            layers; for measuring only, the result is the same.
        compile: True, or arguments of ``torch.compile``, to compile the blocks of both backbones.
        channels_last: Keep the weights and feature maps of both backbones in the layout that convolutions on GPUs
            prefer; the result is the same.
        data_preprocessor: Config of the batched augmentation.
        init_cfg: Initialiser config.

    Raises:
        ValueError: ``base_momentum`` outside [0, 1]; ``chunk_size`` below 1, or below 2 with BatchNorm in the backbone.
    """

    observe = False  # a monitor sets it; then a step leaves in ``observed`` what it has compared, detached
    observed: dict[str, Tensor] | None = None

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module,
        head: dict | nn.Module,
        base_momentum: float,
        chunk_size: int | None = None,
        merge_views: bool = True,
        compile: bool | dict = False,
        channels_last: bool = False,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(build_preprocessor(data_preprocessor), init_cfg)
        if not 0 <= base_momentum <= 1:
            raise ValueError(
                f'base_momentum={base_momentum}: must lie in [0, 1]; it is the weight of the OLD key encoder, e.g. 0.99'
            )
        self.backbone = build_part(backbone)
        self.batch_norm = has_batch_norm(self.backbone)
        if chunk_size is not None and chunk_size < 1 + self.batch_norm:
            raise ValueError(
                f'chunk_size={chunk_size}: must be at least {1 + self.batch_norm}, or None to pass the batch at once'
            )
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.backbone.to(memory_format=self.memory_format)
        self.neck = build_on(self.backbone, neck)
        self.head: Any = build_part(head)
        self.momentum_encoder = MomentumEncoder(self.backbone, self.neck)
        self.base_momentum = self.momentum = base_momentum
        self.iteration = 0  # MomentumUpdateHook counts
        self.chunk_size, self.merge_views = chunk_size, merge_views
        for encoder in (self.backbone, self.momentum_encoder.backbone):
            compile_blocks(encoder, compile)

    def get_layer_depth(self, param_name: str) -> tuple[int, int]:
        """Layer of a parameter, for mmpretrain's layer-wise learning rate decay: the backbone's own answer.

        Raises:
            TypeError: The backbone has none.
        """
        find: Any = getattr(self.backbone, 'get_layer_depth', None)
        if find is None:
            raise TypeError(
                f'{type(self.backbone).__name__} has no get_layer_depth(param_name, prefix), which layer_decay_rate '
                'needs: leave optim_wrapper.constructor out, or give it that method'
            )
        return find(param_name, 'backbone.')

    def init_weights(self) -> None:
        """Initialise the query encoder, then make the momentum encoder equal to it; say what chunks do to BatchNorm."""
        self.backbone.to(memory_format=torch.contiguous_format)  # random numbers are drawn in the order of memory
        super().init_weights()
        self.backbone.to(memory_format=self.memory_format)
        self.sync_momentum_encoder()
        if self.chunk_size is not None and (message := describe_statistics(self.backbone, self.chunk_size)):
            print_log(message, logger='current', level=logging.WARNING)

    def sync_momentum_encoder(self) -> None:
        """Copy the query encoder into the momentum encoder."""
        self.momentum_encoder.sync(self.backbone, self.neck)

    def update_momentum_encoder(self) -> None:
        """One step of the moving average with the current coefficient ``momentum``."""
        self.momentum_encoder.update(self.backbone, self.neck, self.momentum)

    def forward(self, inputs: Any, data_samples: list | None = None, mode: str = 'tensor') -> Any:
        """MMEngine's entry: ``mode='loss'`` takes views and trains, ``'tensor'`` takes images and gives features."""
        if mode == 'loss':
            self.observed = self.head.observed = {} if self.observe else None
            return self.loss(inputs, data_samples)
        if mode == 'tensor':
            return self.extract_feat(inputs)
        raise ValueError(f"mode={mode!r}: a self-supervised model has 'loss' and 'tensor'; evaluate it with a probe")

    def loss(self, inputs: list[Tensor], data_samples: list | None = None) -> dict[str, Tensor]:
        """The training loss of V views; see the algorithm."""
        raise NotImplementedError

    @classmethod
    def levels(cls, num_keys: int, temperature: float, num_random: int = 0) -> tuple[float, float]:
        """The loss of a model that has learned nothing (chance), and the least possible loss (floor).

        Args:
            num_keys: Keys that each query is compared with, its positive one among them.
            temperature: Of the head.
            num_random: Random vectors among the keys, in a queue that is not full yet.

        Returns:
            Chance and floor in nats, at a ``loss_weight`` of 1.
        """
        raise NotImplementedError

    def chance_level(self, batch_size: int) -> float:
        """Loss of a model that has learned nothing, given ``batch_size`` images per process and the queue so far."""
        return self._levels(batch_size)[0]

    def floor_level(self, batch_size: int) -> float:
        """Least possible loss, for ``batch_size`` images on each process."""
        return self._levels(batch_size)[1]

    def _levels(self, batch_size: int) -> tuple[float, float]:
        num_keys = self.num_keys(batch_size)
        num_random = round((1 - self.queue_fill()) * (num_keys - 1))
        chance, floor = self.levels(num_keys, self.head.temperature, num_random)
        return self.loss_weight * chance, self.loss_weight * floor

    def num_keys(self, batch_size: int) -> int:
        """Keys that each query is compared with, its positive one among them."""
        return batch_size * dist.world_size()

    def queue_fill(self) -> float:
        """The real keys' share of the queue; 1 without a queue."""
        return 1.0

    @property
    def loss_weight(self) -> float:
        """The constant factor of the head's loss."""
        return getattr(getattr(self.head, 'loss_module', None), 'loss_weight', 1.0)

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Features (B, C) of images (B, 3, S, S): the query backbone's last output, averaged over positions."""
        name = type(self.backbone).__name__
        return average_positions(require_layout(last_output(self.backbone(inputs), name), inputs, name))

    def encode_queries(self, views: list[Tensor]) -> list[Tensor]:
        """Projections (N, D) of each view by the query encoder."""
        return self._encode(self.backbone, self.neck, views, interleave=self.batch_norm)

    @torch.no_grad()
    def encode_keys(self, views: list[Tensor], interleave: bool = False) -> list[Tensor]:
        """Projections (N, D) of each view by the momentum encoder, without gradient.

        Chunks of keys are slices of the batch and chunks of queries are interleaved: where BatchNorm normalises chunks,
        a key then has other company than its query, of which at most one in ``N / chunk_size`` is the same.
        """
        return self._encode(self.momentum_encoder.backbone, self.momentum_encoder.neck, views, interleave)

    def gather_keys(self, views: list[Tensor]) -> Callable[[], tuple[Tensor, ...]]:
        """Start gathering each view's unit-length keys (world size * N, D); the returned function waits for them.

        One collective for all views, which overlaps with what is computed before the result is called.
        """
        wait = dist.start_gathering(torch.stack([l2_normalize(k) for k in self.encode_keys(views)], dim=1))
        return lambda: wait().unbind(dim=1)

    def _encode(self, backbone: nn.Module, neck: nn.Module, views: list[Tensor], interleave: bool) -> list[Tensor]:
        """BatchNorm always sees one whole view, or a chunk of one in the backbone, as published."""
        fits = self.chunk_size is None or self.chunk_size >= len(views) * len(views[0])
        if self.merge_views and fits and not self.batch_norm:
            features = list(encode_in_chunks(backbone, torch.cat(views), None).chunk(len(views)))
        else:
            features = [encode_in_chunks(backbone, x, self.chunk_size, interleave) for x in views]
        require_layout(features[0], views[0], type(backbone).__name__)
        if self.observed is not None and backbone is self.backbone:
            self.observed['features'] = average_positions(features[0].detach())
        if self.merge_views:
            return project_views(neck, list(features))
        return [neck((feature,))[-1] for feature in features]
