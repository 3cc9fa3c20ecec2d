"""Counts what makes the host wait for the device: reading a number back from a tensor."""

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode


class ScalarReads(TorchDispatchMode):
    """Counts the reads of single values (``item()``, ``float(tensor)``, ``if tensor:``) while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def scalar_reads(run: Callable[[], object]) -> int:
    """Count the single values that one call reads from tensors; works on any device."""
    with ScalarReads() as counter:
        run()
    return counter.count


def device_reads(run: Callable[[], object]) -> int:
    """Count the copies from the GPU to the host in one call, by the profiler."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        run()
        torch.cuda.synchronize()
    return sum('DtoH' in event.name for event in profiler.events())
