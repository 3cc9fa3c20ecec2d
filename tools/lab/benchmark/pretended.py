"""A GPU that is not there: tensors with a device and a shape but no numbers, and what a backward pass of them needs."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional

from lab.benchmark.operations import replace_tensors

TOOLS = Path(__file__).parents[2]
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


@contextmanager
def flash_attention() -> Iterator[None]:
    """What a GPU takes for bfloat16; torch asks the driver which kernels there are, and would write out the matrix."""

    def attend(q: Tensor, k: Tensor, v: Tensor, attn_mask: None = None, dropout_p: float = 0.0, **_: Any) -> Tensor:
        half = [x.to(torch.bfloat16) for x in (q, k, v)]
        return torch.ops.aten._scaled_dot_product_flash_attention(*half, dropout_p)[0]

    with mock.patch.object(functional, 'scaled_dot_product_attention', attend):
        yield


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


def run_module(name: str, *arguments: str) -> str:
    """The last line that a module prints, run as a program in a process where torch has no accelerator.

    Raises:
        ValueError: Not on Linux, or no C compiler.
    """
    library = no_accelerator_library()
    if library is None:
        raise ValueError('what needs a pretended GPU needs Linux and a C compiler (cc or gcc)')
    paths = [str(TOOLS), str(TOOLS.parent), os.environ.get('PYTHONPATH', '')]
    environment = os.environ | dict(LD_PRELOAD=library, PYTHONPATH=os.pathsep.join(filter(None, paths)))
    command = [sys.executable, '-W', 'ignore', '-m', name, *arguments]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()[-1]
