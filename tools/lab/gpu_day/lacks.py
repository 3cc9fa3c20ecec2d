"""List what a machine lacks before anything begins, and what stays open because of it."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from lab.gpu_day.images import find_images

MOST_CORES = 16
DISK_BYTES = 5e9
MEMORY_BYTES = 32e9


def find(device: str, data: str | None, out: Path, cores: int) -> list[str]:
    """One line for each.

    Raises:
        ValueError: There is no GPU, and one is asked for; or ``data`` holds no images that are known.
    """
    if device == 'cuda' and not _has_gpu():
        raise ValueError('torch sees no GPU here: rehearse with --device cpu --tiny')
    checks = (
        (device == 'cuda', 'a GPU: this is a rehearsal, and no number counts'),
        (find_spec('mmpretrain'), 'mmpretrain: nothing to compare with (pip install mmpretrain)'),
        (find_spec('pytest'), 'pytest: the stage "tests" fails (pip install -e ".[test]")'),
        (_compiles(device), 'a C compiler or Triton: model.compile cannot be measured, and its tests fail'),
        (cores >= MOST_CORES, f'{MOST_CORES} cores: there are {cores}, so the input stops there'),
        (shutil.disk_usage(out).free >= DISK_BYTES, f'{DISK_BYTES / 1e9:.0f} GB of disk for images and checkpoints'),
        (_memory() >= MEMORY_BYTES, f'{MEMORY_BYTES / 1e9:.0f} GB of memory for {MOST_CORES} loading processes'),
        (
            find_images(data)[0] != 'generated',
            'Fashion-MNIST and CIFAR-10: the run learns generated images (--data DIR)',
        ),
    )
    return [text for there, text in checks if not there]


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _compiles(device: str) -> bool:
    compiler = any(shutil.which(name) for name in (os.environ.get('CC', 'gcc'), 'clang', 'cc'))
    return compiler and (device == 'cpu' or find_spec('triton') is not None)


def _memory() -> float:
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') if hasattr(os, 'sysconf') else 0.0
