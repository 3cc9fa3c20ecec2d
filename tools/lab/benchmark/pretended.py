"""A GPU that is not there: tensors with a device and a shape but no numbers, and what a backward pass of them needs."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from lab.benchmark.operations import replace_tensors

# Two functions of torch, in two versions: which device is the accelerator (none), and whether one of a type is.
NO_ACCELERATOR = """
short _ZN2at11accelerator14getAcceleratorEb(_Bool checked) { return 0; }
short _ZN2at14getAcceleratorEb(_Bool checked) { return 0; }
_Bool _ZN2at11accelerator13isAcceleratorEN3c1010DeviceTypeE(signed char type) { return 0; }
_Bool _ZN2at13isAcceleratorEN3c1010DeviceTypeE(signed char type) { return 0; }
"""


class PretendedGPU:
    """Makes tensors and modules on a CUDA device that is pretended."""

    def __init__(self, kind: str = 'cuda') -> None:
        self.mode, self.kind = FakeTensorMode(allow_non_fake_inputs=True), kind

    def tensor(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """One of this shape."""
        return self.move(torch.empty(shape, dtype=dtype, device='meta'))

    def move(self, x: Tensor) -> Tensor:
        """One like ``x``."""
        return FakeTensor(self.mode, x.detach().to('meta'), torch.device(self.kind))

    def move_module(self, module: nn.Module) -> nn.Module:
        """Replaces parameters and buffers in place."""
        replace_tensors(module, self.move)
        return module


@contextmanager
def pretended_gpu() -> Iterator[PretendedGPU]:
    """In this context tensors can be made on ``cuda``; nothing is ever started there."""
    gpu = PretendedGPU()
    with (
        mock.patch.object(torch.cuda, '_lazy_init', return_value=None),
        mock.patch.object(
            torch.cuda.amp.common, 'amp_definitely_not_available', return_value=False
        ),  # else autocast is off
        mock.patch.object(torch.cuda, 'is_bf16_supported', return_value=True),
        gpu.mode,
        torch.autograd.set_multithreading_enabled(False),  # no thread of the device
    ):
        yield gpu


@cache
def no_accelerator_library() -> str | None:
    """A library for ``LD_PRELOAD``: in a process with it torch has no accelerator, and backward passes ask no driver.

    Returns:
        Its path; None without Linux and a C compiler.
    """
    compiler = shutil.which('cc') or shutil.which('gcc')
    if compiler is None or sys.platform != 'linux':
        return None
    folder = Path(tempfile.mkdtemp(prefix='no_accelerator'))
    (folder / 'no_accelerator.c').write_text(NO_ACCELERATOR)
    command = [compiler, '-shared', '-fPIC', '-o', 'no_accelerator.so', 'no_accelerator.c']
    subprocess.run(command, cwd=folder, check=True)
    return str(folder / 'no_accelerator.so')
