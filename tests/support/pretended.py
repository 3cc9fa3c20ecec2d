"""A GPU that is not there: tensors with a device and a shape but no numbers.

On pretended CUDA tensors (``FakeTensorMode``) a step runs as it would there: mixing devices raises, and so does reading
a number back, for which the host would wait. torch's engine of backward passes asks the driver for streams of a device
that is its accelerator, so a backward pass needs a process in which torch has none: :func:`without_accelerator`. On
meta tensors everything runs in any process; :class:`OneDevice` looks at each of their operations.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lab.benchmark.operations import replace_tensors
from tests.support.processes import run_processes

INDEXING = ('aten.index', 'aten._index_put')  # their indices may come from the host
# Two functions of torch, in two versions: which device is the accelerator (none), and whether one of a type is.
NO_ACCELERATOR = """
short _ZN2at11accelerator14getAcceleratorEb(_Bool checked) { return 0; }
short _ZN2at14getAcceleratorEb(_Bool checked) { return 0; }
_Bool _ZN2at11accelerator13isAcceleratorEN3c1010DeviceTypeE(signed char type) { return 0; }
_Bool _ZN2at13isAcceleratorEN3c1010DeviceTypeE(signed char type) { return 0; }
"""
COPYING = ('aten._to_copy', 'aten.copy_', 'aten._foreach_copy')  # from the host to the device


class PretendedGPU:
    """Makes tensors and modules on a CUDA device that is pretended."""

    def __init__(self, kind: str = 'cuda') -> None:
        self.mode, self.kind = FakeTensorMode(allow_non_fake_inputs=True), kind

    def tensor(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return self.move(torch.empty(shape, dtype=dtype, device='meta'))

    def move(self, x: Tensor) -> Tensor:
        return FakeTensor(self.mode, x.detach().to('meta'), torch.device(self.kind))

    def move_module(self, module: nn.Module) -> nn.Module:
        """Replaces parameters and buffers in place."""
        replace_tensors(module, self.move)
        return module


@contextmanager
def pretended_gpu() -> Iterator[PretendedGPU]:
    """In this context tensors can be made on ``cuda``; nothing is ever started there."""
    gpu = PretendedGPU()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, '_lazy_init', lambda: None)
        patch.setattr(torch.cuda.amp.common, 'amp_definitely_not_available', lambda: False)  # else autocast is off
        patch.setattr(torch.cuda, 'is_bf16_supported', lambda *args, **kwargs: True)
        with gpu.mode, torch.autograd.set_multithreading_enabled(False):  # no thread of the device
            yield gpu


def without_accelerator(fn: Callable, *args: Any) -> Any:
    """What ``fn(*args)`` gives where torch has no accelerator: pretended tensors have backward passes there.

    It is kept for the next call; see :func:`tests.support.processes.run_processes` for what ``fn`` may be.
    """
    library = _library()
    if library is None:
        pytest.skip('needs Linux and a C compiler')
    return run_processes(fn, 1, *args, preload=library)[0]


@cache
def _library() -> str | None:
    compiler = shutil.which('cc') or shutil.which('gcc')
    if compiler is None or sys.platform != 'linux':
        return None
    folder = Path(tempfile.mkdtemp(prefix='no_accelerator'))
    (folder / 'no_accelerator.c').write_text(NO_ACCELERATOR)
    command = [compiler, '-shared', '-fPIC', '-o', 'no_accelerator.so', 'no_accelerator.c']
    subprocess.run(command, cwd=folder, check=True)
    return str(folder / 'no_accelerator.so')


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
