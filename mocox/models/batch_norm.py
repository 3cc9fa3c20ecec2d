"""BatchNorm whose statistics are those of the whole batch, however many processes it is spread over."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mocox import dist
from mocox.registry import MODELS


@MODELS.register_module('SyncBN')
class SyncBatchNorm(_BatchNorm):
    """Batch normalisation synchronised across processes on GPUs and on CPUs.

    On GPUs it is ``torch.nn.SyncBatchNorm``, whose kernels it calls, and in one process or in eval mode it is
    ``F.batch_norm``. What torch refuses, several processes on the CPU, is computed here in two passes, mean first, so
    that runs of any world size agree to rounding. State-dict names are those of every BatchNorm.

    It is not a subclass of ``torch.nn.SyncBatchNorm``, which DistributedDataParallel rejects on the CPU and MMEngine
    replaces in single-process runs.

    Source: arXiv:1502.03167, algorithm 1.

    Raises:
        ValueError: Training with a single value per channel, which has no variance.
    """

    process_group = None  # read by torch.nn.SyncBatchNorm.forward: all processes
    _check_input_dim = nn.SyncBatchNorm._check_input_dim
    _check_non_zero_input_channels = nn.SyncBatchNorm._check_non_zero_input_channels

    def forward(self, x: Tensor) -> Tensor:
        """Normalises (N, C) or (N, C, ...) over all dimensions but C."""
        if not self.training:
            return nn.SyncBatchNorm.forward(self, x)
        self._check_values_per_channel(x)
        if x.device.type == 'cpu' and dist.world_size() > 1:
            return self._forward_across_processes(x)
        if dist.world_size() == 1:  # torch.nn.SyncBatchNorm asks for a GPU even in a process group of one
            return _BatchNorm.forward(self, x)
        return nn.SyncBatchNorm.forward(self, x)

    def _check_values_per_channel(self, x: Tensor) -> None:
        self._check_input_dim(x)
        if x.numel() // max(x.shape[1], 1) * dist.world_size() == 1:
            raise ValueError(
                f'BatchNorm cannot train with batch size 1: an input of shape {tuple(x.shape)} has one value per '
                'channel and no variance. Set train_dataloader.batch_size to 2 or more, and drop_last=True'
            )

    def _forward_across_processes(self, x: Tensor) -> Tensor:
        dims = [dim for dim in range(x.ndim) if dim != 1]
        shape = [-1 if dim == 1 else 1 for dim in range(x.ndim)]
        values = x.to(torch.promote_types(x.dtype, torch.float32))  # autocast may hand over bfloat16
        count = values.new_full((1,), x.numel() // x.shape[1])
        sums, count = dist.all_reduce_sum(torch.cat([values.sum(dims), count])).split([x.shape[1], 1])
        mean = sums / count  # (C,)
        centred = values - mean.view(shape)
        var = dist.all_reduce_sum(centred.square().sum(dims)) / count  # (C,), biased: what normalises
        self._update_running_stats(mean.detach(), var.detach() * count / (count - 1))
        out = centred * torch.rsqrt(var + self.eps).view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(x.dtype)

    @torch.no_grad()
    def _update_running_stats(self, mean: Tensor, unbiased_var: Tensor) -> None:
        if not self.track_running_stats:
            return
        self.num_batches_tracked.add_(1)
        weight = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_var.lerp_(unbiased_var.to(self.running_var.dtype), weight)


@MODELS.register_module('SplitBN')
class SplitBatchNorm(_BatchNorm):
    """Batch normalisation within groups of a batch, as if each group were on a GPU of its own.

    Gives MoCo v1 and v2 on one GPU the statistics of the published eight, so that shuffling keys between groups
    protects them in the same way. A group takes every G-th image of the batch. Running statistics are the mean over
    groups. In eval mode it is ``F.batch_norm``; state-dict names are those of every BatchNorm.

    Source: arXiv 1911.05722, section 3.3 (per-GPU statistics of 32 images).

    Args:
        num_features: Channels.
        group_size: Images per group, at least 2; if the batch is not a multiple of it, the next larger size that
            divides the batch, which may be the whole batch.
        eps: Added to the variance.
        momentum: Weight of the new batch in the running statistics.
        affine: Learn scale and shift.
        track_running_stats: Keep running statistics.

    Raises:
        ValueError: ``group_size`` below 2.
    """

    def __init__(
        self,
        num_features: int,
        group_size: int = 32,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
        if group_size < 2:
            raise ValueError(f'group_size={group_size}: BatchNorm needs at least 2 images per group')
        self.group_size = group_size

    _check_input_dim = nn.SyncBatchNorm._check_input_dim

    def num_groups(self, batch_size: int) -> int:
        """Groups of a batch: as many as divide it with ``group_size`` images or more in each."""
        return next(g for g in range(max(batch_size // self.group_size, 1), 0, -1) if batch_size % g == 0)

    def forward(self, x: Tensor) -> Tensor:
        """Normalises (N, C) or (N, C, ...) over groups of rows and all further dimensions."""
        groups = self.num_groups(len(x)) if self.training else 1
        if groups == 1:
            return super().forward(x)
        self._check_input_dim(x)
        stats = [self.running_mean, self.running_var] if self.track_running_stats else []
        repeated = [s.repeat(groups) for s in stats] or [None, None]
        weight, bias = (p.repeat(groups) if self.affine else None for p in (self.weight, self.bias))
        # row n of the batch becomes channels of group n % groups: no copy
        grouped = x.reshape(-1, groups * x.shape[1], *x.shape[2:])
        out = nn.functional.batch_norm(grouped, *repeated, weight, bias, True, self.momentum, self.eps)
        with torch.no_grad():
            for s, r in zip(stats, repeated, strict=False):
                s.copy_(r.view(groups, -1).mean(dim=0))
            if stats:
                self.num_batches_tracked.add_(1)
        return out.reshape(x.shape)
