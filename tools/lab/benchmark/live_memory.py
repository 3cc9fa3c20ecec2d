"""Counts the bytes of all live tensors, operation by operation: the peak memory of a step on any device."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """While it is active, ``current`` and ``peak`` are the bytes of the tensors known to it that are alive.

    Known are those given at the start and all that operations return. What a kernel allocates inside of one operation
    is not seen, nor what an allocator keeps in reserve.

    Args:
        known: Tensors that are alive at the start and count: weights, inputs.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.current = self.peak = 0
        self._sizes: dict[int, int] = {}
        for tensor in known:
            self._add(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._add(leaf)
        return out

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.current += storage.nbytes()
            self.peak = max(self.peak, self.current)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.current -= self._sizes.pop(key)


def peak_bytes(run: Callable[[], object], known: Iterable[Tensor], device: str) -> int:
    """Peak memory of one call: what CUDA's allocator handed out, or on a CPU the bytes of live tensors."""
    if device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    with LiveMemory(known) as memory:
        run()
    return memory.peak
