"""BatchNorm with statistics of the whole batch, across any number of processes."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from mocox import dist
from mocox.registry import MODELS

AT_LEAST_2D: Any = nn.SyncBatchNorm._check_input_dim  # reads nothing of its object


@MODELS.register_module('SyncBN')
class SyncBatchNorm(_BatchNorm):
    """Batch normalisation synchronised across processes on GPUs and on CPUs.

    In one process or in eval mode it is ``F.batch_norm``. In several, each computes the mean and variance of its own
    images, one all-gather brings them together, and they are combined (Chan et al. 1979): two passes, so that a mean
    far from 0 costs no digits. On GPUs torch's kernels do this, as in ``torch.nn.SyncBatchNorm``, which also looks
    for processes without images and makes the host wait three times a layer for it; here no process is without.
    State-dict names are those of every BatchNorm.

    It is not a subclass of ``torch.nn.SyncBatchNorm``, which DistributedDataParallel rejects on the CPU and MMEngine
    replaces in single-process runs.

    Source: arXiv:1502.03167, algorithm 1.

    Raises:
        ValueError: Training with a single value per channel, which has no variance.
    """

    _check_input_dim = AT_LEAST_2D

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C) or (N, C, ...) over all dimensions but C."""
        if self.training:
            self._check_values_per_channel(x)
        if self.training and dist.world_size() > 1:
            return self._forward_across_processes(x)
        return super().forward(x)

    def _check_values_per_channel(self, x: Tensor) -> None:
        self._check_input_dim(x)
        if x.numel() // max(x.shape[1], 1) * dist.world_size() == 1:
            raise ValueError(
                f'BatchNorm cannot train with batch size 1: an input of shape {tuple(x.shape)} has one value per '
                'channel and no variance. Set train_dataloader.batch_size to 2 or more, and drop_last=True'
            )

    @torch.compiler.disable  # its collectives cannot be compiled
    def _forward_across_processes(self, x: Tensor) -> Tensor:
        running_mean, running_var, weight = None, None, self.momentum
        if self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            running_mean, running_var = self.running_mean, self.running_var
            if weight is None:  # a plain mean over all batches; the only case in which the host waits
                weight = 1 / self.num_batches_tracked.item()
        return _AcrossProcesses.apply(x, self.weight, self.bias, running_mean, running_var, weight or 0.0, self.eps)


class _AcrossProcesses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
    ) -> Tensor:
        kernels = _kernels(x)
        x = _dense(x)
        channels = x.shape[1]
        mean, invstd = kernels.batch_norm_stats(x, eps)  # (C,), (C,): of this process
        count = mean.new_full((1,), x.numel() // channels)
        gathered = dist.gather_rows(torch.cat([mean, invstd, count])[None])  # (world_size, 2 C + 1)
        means, invstds, counts = gathered.split([channels, channels, 1], dim=1)
        counts = counts.reshape(-1)
        kept = counts if running_mean is None else counts.to(running_mean.dtype)
        mean, invstd = kernels.batch_norm_gather_stats_with_counts(
            x, means, invstds, running_mean, running_var, momentum, eps, kept
        )
        ctx.save_for_backward(x, weight, mean, invstd, counts.to(torch.int32))
        return kernels.batch_norm_elemt(x, weight, bias, mean, invstd, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, invstd, counts = ctx.saved_tensors
        kernels, grad = _kernels(x), _dense(grad)
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        sum_dy, sum_dy_xmu, grad_weight, grad_bias = kernels.batch_norm_backward_reduce(
            grad, x, mean, invstd, weight, needs_x, needs_weight, needs_bias
        )
        grad_x = None
        if needs_x:  # every process's loss depends on the statistics of all
            sums = dist.all_reduce_sum(torch.cat([sum_dy, sum_dy_xmu])).split(len(sum_dy))
            weight = None if weight is None else weight.to(mean.dtype)
            grad_x = kernels.batch_norm_backward_elemt(grad, x, mean, invstd, weight, *sums, counts)
        return grad_x, grad_weight if needs_weight else None, grad_bias if needs_bias else None, None, None, None, None


def _dense(x: Tensor) -> Tensor:
    return x if x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()


def _kernels(x: Tensor) -> Any:
    """The namespace of the five functions below: torch has them for CUDA only."""
    return torch if x.is_cuda else _Formulas


class _Formulas:
    """Reference formulas of torch's kernels of these names, for devices that do not have them.

    Sums are taken over all dimensions but the channels; half precision is computed in float32.
    """

    @staticmethod
    def batch_norm_stats(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        var, mean = torch.var_mean(values, _all_but_channels(x), correction=0)
        return mean, torch.rsqrt(var + eps)

    @staticmethod
    def batch_norm_gather_stats_with_counts(
        x: Tensor,
        means: Tensor,
        invstds: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
        counts: Tensor,
    ) -> tuple[Tensor, Tensor]:
        shares = (counts / counts.sum()).to(means.dtype)[:, None]  # (world_size, 1)
        mean = (shares * means).sum(0)
        var = (shares * (invstds**-2 - eps + (means - mean) ** 2)).sum(0)  # biased: what normalises
        if running_mean is not None and running_var is not None:
            total = counts.sum()
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * (total / (total - 1))).to(running_var.dtype), momentum)
        return mean, torch.rsqrt(var + eps)

    @staticmethod
    def batch_norm_elemt(
        x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, invstd: Tensor, eps: float
    ) -> Tensor:
        out = (x - _per_channel(mean, x)) * _per_channel(invstd, x)
        if weight is not None and bias is not None:
            out = out * _per_channel(weight, x) + _per_channel(bias, x)
        return out.to(x.dtype)

    @staticmethod
    def batch_norm_backward_reduce(
        grad: Tensor, x: Tensor, mean: Tensor, invstd: Tensor, weight: Tensor | None, *needed: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dims = _all_but_channels(x)
        sum_dy = grad.to(mean.dtype).sum(dims)
        sum_dy_xmu = (grad * (x - _per_channel(mean, x))).to(mean.dtype).sum(dims)
        kind = mean.dtype if weight is None else weight.dtype
        return sum_dy, sum_dy_xmu, (sum_dy_xmu * invstd).to(kind), sum_dy.to(kind)

    @staticmethod
    def batch_norm_backward_elemt(
        grad: Tensor,
        x: Tensor,
        mean: Tensor,
        invstd: Tensor,
        weight: Tensor | None,
        sum_dy: Tensor,
        sum_dy_xmu: Tensor,
        counts: Tensor,
    ) -> Tensor:
        total = counts.sum()
        slope = _per_channel(invstd**2 * sum_dy_xmu / total, x)
        scale = invstd if weight is None else invstd * weight
        centred = x - _per_channel(mean, x)
        return ((grad - _per_channel(sum_dy / total, x) - centred * slope) * _per_channel(scale, x)).to(x.dtype)


def _all_but_channels(x: Tensor) -> list[int]:
    return [dim for dim in range(x.ndim) if dim != 1]


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.view([-1 if dim == 1 else 1 for dim in range(x.ndim)])


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

    momentum: float

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

    _check_input_dim = AT_LEAST_2D

    def num_groups(self, batch_size: int) -> int:
        """Groups of a batch: as many as divide it with ``group_size`` images or more in each."""
        return next(g for g in range(max(batch_size // self.group_size, 1), 0, -1) if batch_size % g == 0)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C) or (N, C, ...) over groups of rows and all further dimensions."""
        groups = self.num_groups(len(x)) if self.training else 1
        if groups == 1:
            return super().forward(x)
        self._check_input_dim(x)
        stats = [s for s in (self.running_mean, self.running_var) if s is not None and self.track_running_stats]
        repeated = [s.repeat(groups) for s in stats]
        mean, var = repeated or (None, None)
        weight, bias = (p.repeat(groups) if self.affine else None for p in (self.weight, self.bias))
        # row n of the batch becomes channels of group n % groups: no copy
        grouped = x.reshape(-1, groups * x.shape[1], *x.shape[2:])
        out = nn.functional.batch_norm(grouped, mean, var, weight, bias, True, self.momentum, self.eps)
        with torch.no_grad():
            for s, r in zip(stats, repeated, strict=True):
                s.copy_(r.view(groups, -1).mean(dim=0))
            if stats and self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        return out.reshape(x.shape)
