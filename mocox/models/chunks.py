"""Chunked backbone passes: the memory of a chunk, the loss of the whole batch."""

from contextlib import AbstractContextManager, nullcontext
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mocox.models.batch_norm import SplitBatchNorm, SyncBatchNorm
from mocox.models.layout import last_output


def has_batch_norm(module: nn.Module) -> bool:
    """True if the output for one image depends on the others in its batch."""
    return any(isinstance(m, _BatchNorm) for m in module.modules())


def encode_in_chunks(backbone: nn.Module, x: Tensor, chunk_size: int | None, interleave: bool = False) -> Tensor:
    """Last features (N, ...) of images (N, 3, S, S); each chunk is computed once more in the backward pass.

    The activations of one chunk are alive at a time, and a backbone without BatchNorm gives the same numbers as
    without chunks. BatchNorm takes its statistics from the chunk, as it does from the images of a GPU, and its running
    statistics move once for each chunk. The random numbers of stochastic depth are those of the first computation.

    Args:
        backbone: Gives features, or a tuple of them, last one used.
        x: The images.
        chunk_size: Images per pass, at most; None means all at once.
        interleave: Chunk j of n holds the images j, j + n, j + 2 n, ..., and all chunks have ``chunk_size`` images.
            These are whole groups of ``SplitBN``; without ``interleave`` chunks are slices of the batch.

    Raises:
        ValueError: ``interleave`` with a batch that is not a multiple of ``chunk_size``.
    """
    if chunk_size is None or len(x) <= chunk_size:
        return _features(backbone, x)
    num_chunks = ceil(len(x) / chunk_size)
    if interleave and len(x) % chunk_size:
        raise ValueError(
            f'chunk_size={chunk_size} does not divide the batch of {len(x)} images: the BatchNorm of '
            f'{type(backbone).__name__} would take statistics of chunks of unequal size. Choose a divisor of {len(x)}'
        )
    chunks = [x[j::num_chunks] for j in range(num_chunks)] if interleave else x.tensor_split(num_chunks)
    with _own_casts(x.device.type):
        features = [_recomputed(backbone, chunk) for chunk in chunks]
    return torch.stack(features, dim=1).flatten(0, 1) if interleave else torch.cat(features)


def describe_statistics(backbone: nn.Module, chunk_size: int) -> str | None:
    """Describe the effect of chunks on a backbone's BatchNorm, for the log; None where they change no training step."""
    layers = [m for m in backbone.modules() if isinstance(m, _BatchNorm)]
    if all(isinstance(m, SplitBatchNorm) and chunk_size % m.group_size == 0 for m in layers):
        return None
    synchronised = any(isinstance(m, SyncBatchNorm | nn.SyncBatchNorm) for m in layers)
    others = ', with the chunks of the other processes,' if synchronised else ''
    return (
        f'chunk_size={chunk_size}: {type(backbone).__name__} has BatchNorm, which normalises the {chunk_size} images '
        f'of a chunk{others} together and not the batch, as the papers do with the images of one GPU. Results differ '
        'from those without chunk_size'
    )


def _recomputed(backbone: nn.Module, x: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return _features(backbone, x)
    contexts = (nullcontext(), _RunningStatisticsKept(backbone))
    output = checkpoint(backbone, x, use_reentrant=False, context_fn=lambda: contexts)
    return last_output(output, type(backbone).__name__)


def _own_casts(device_type: str) -> AbstractContextManager:
    """Under autocast each chunk casts the weights itself, so that their gradients add up in float32.

    Autocast keeps the cast of a weight until it is left. The gradients of all chunks would meet at that cast and add up
    in its type: with bfloat16 the error grows with the number of chunks.
    """
    if not torch.is_autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, torch.get_autocast_dtype(device_type), cache_enabled=False)


def _features(backbone: nn.Module, x: Tensor) -> Tensor:
    return last_output(backbone(x), type(backbone).__name__)


class _RunningStatisticsKept:
    """While entered, BatchNorm updates throw-away buffers. Same tensors are saved for backward as without it."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __enter__(self) -> None:
        layers = [m for m in self.module.modules() if isinstance(m, _BatchNorm) and m.training]
        self.kept = [(m, dict(m._buffers)) for m in layers]
        for m, buffers in self.kept:
            m._buffers.update({k: None if b is None else torch.zeros_like(b) for k, b in buffers.items()})

    def __exit__(self, *error: object) -> None:
        for m, buffers in self.kept:
            m._buffers.update(buffers)
