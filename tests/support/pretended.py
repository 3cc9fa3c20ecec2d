"""A GPU that is not there: tensors with a device and a shape but no numbers.

On pretended CUDA tensors (``FakeTensorMode``) a step runs as it would there: mixing devices raises, and so does reading
a number back, for which the host would wait. torch's engine of backward passes asks the driver for streams of a device
that is its accelerator, so a backward pass needs a process in which torch has none: :func:`without_accelerator`. On
meta tensors everything runs in any process; :class:`OneDevice` looks at each of their operations.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lab.benchmark.pretended import PretendedGPU, no_accelerator_library, pretended_gpu
from tests.support.processes import run_processes

__all__ = ['OneDevice', 'PretendedGPU', 'meta_device', 'pretended_gpu', 'without_accelerator']

INDEXING = ('aten.index', 'aten._index_put')  # their indices may come from the host
COPYING = ('aten._to_copy', 'aten.copy_', 'aten._foreach_copy')  # from the host to the device


def without_accelerator(fn: Callable, *args: Any) -> Any:
    """What ``fn(*args)`` gives where torch has no accelerator: pretended tensors have backward passes there.

    It is kept for the next call; see :func:`tests.support.processes.run_processes` for what ``fn`` may be.
    """
    library = no_accelerator_library()
    if library is None:
        pytest.skip('needs Linux and a C compiler')
    return run_processes(fn, 1, *args, preload=library)[0]


@contextmanager
def meta_device() -> Iterator[None]:
    """Forward and backward passes on meta tensors; autocast, which has no such device, is left out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, 'autocast', lambda *args, **kwargs: nullcontext())
        with OneDevice():
            yield


class OneDevice(TorchDispatchMode):
    """Raises where an operation takes tensors of the host beside meta tensors, numbers and indices aside."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = str(func)
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        kinds = {x.device.type for x in tensors if x.ndim or x.is_meta}
        if len(kinds) > 1 and not name.startswith(INDEXING + COPYING):
            raise RuntimeError(f'{name} mixes tensors of {sorted(kinds)}')
        return func(*args, **kwargs or {})
