"""Describe the machine and measure its peak rates."""

import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch

from lab.benchmark import data, roofline
from lab.benchmark.report import device_name, versions
from lab.gpu_day.day import Day, Piece

DTYPES = {'bfloat16': torch.bfloat16, 'float16': torch.float16, 'float32': torch.float32}
TF32 = 'float32 as TF32'


def pieces(day: Day, stage: str) -> list[Piece]:
    """Two."""
    return [
        Piece('versions', 2, lambda notes: describe(day)),
        Piece('rates', 15, lambda notes: rates(day)),
    ]


def describe(day: Day) -> dict[str, Any]:
    """Hardware and software."""
    found: dict[str, Any] = dict(versions=versions(), device=device_name(day.device), cores=day.cores)
    found['system'] = platform.platform()
    if day.device == 'cuda':
        properties = torch.cuda.get_device_properties(0)
        found['memory_bytes'] = properties.total_memory
        found['capability'] = f'{properties.major}.{properties.minor}'
        found['cuda'], found['cudnn'] = torch.version.cuda, torch.backends.cudnn.version()
        found['nvidia_smi'] = _nvidia_smi()
    return found | dict(text=f'{found["device"]}, {day.cores} cores, torch {found["versions"]["torch"]}')


def _nvidia_smi() -> str:
    if not shutil.which('nvidia-smi'):
        return 'not installed'
    query = '--query-gpu=name,driver_version,clocks.sm,power.limit,temperature.gpu'
    return subprocess.run(['nvidia-smi', query, '--format=csv'], capture_output=True, text=True, timeout=30).stdout


def rates(day: Day) -> dict[str, Any]:
    """Matrix products in each precision, and memory."""
    with small_limits(day.tiny):
        found = {name: roofline.matrix_rate(day.device, dtype) for name, dtype in DTYPES.items()}
        with tf32():
            found[TF32] = roofline.matrix_rate(day.device, torch.float32)
        memory = roofline.memory_rate(day.device)
    listed = ', '.join(f'{name} {rate / 1e12:.3g}' for name, rate in found.items())
    return dict(matrix=found, memory=memory, text=f'TFLOP/s: {listed}; memory {memory / 1e9:.0f} GB/s')


@contextmanager
def tf32() -> Iterator[None]:
    """Let matrix products round float32 to TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('high')
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def small_limits(tiny: bool) -> Iterator[None]:
    """At full size it takes seconds to measure the machine itself and its decoders."""
    if not tiny:
        yield
        return
    with (
        patch.dict(roofline.SIDES, cpu=64, cuda=64),
        patch.object(roofline, 'NUM_VALUES', 2**12),
        patch.multiple(data, NUM_LARGE=1, NUM_DECODED=4, NUM_PNGS=1),
    ):
        yield
