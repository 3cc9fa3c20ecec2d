"""The result of a benchmark: what is printed, and the JSON."""

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from mocox.version import __version__

PACKAGES = ('torch', 'torchvision', 'timm', 'mmengine', 'mmcv', 'mmcv-lite', 'mmpretrain', 'numpy', 'pillow')


@dataclass
class Result:
    """One measurement; rates are images per second, more is better.

    Attributes:
        mode: ``step``, ``data``, ``memory`` or ``scaling``.
        ours: What mocox reaches, in the unit of the mode.
        theirs: Result of the other side, or None.
        ratio: Ours over theirs (for memory theirs over ours), the median of the rounds; above 1 where mocox is better.
        ratio_min: Smallest ratio of a round.
        ratio_max: Largest ratio of a round.
        share_of_limit: What part of the limit of this machine ours reaches, 0 to 1.
        max_loss_difference: Largest difference of the losses in the steps compared before timing.
        device: Name of the processor or the GPU.
        versions: Of the packages that matter.
        details: Everything else.
    """

    mode: str
    ours: float
    theirs: float | None = None
    ratio: float | None = None
    ratio_min: float | None = None
    ratio_max: float | None = None
    share_of_limit: float | None = None
    max_loss_difference: float | None = None
    device: str = ''
    versions: dict[str, str] = field(default_factory=lambda: versions())
    details: dict[str, Any] = field(default_factory=dict)

    def write(self, path: str) -> None:
        """Write the JSON."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(asdict(self), indent=2) + '\n')


def require_writable(path: str) -> None:
    """Refuse a file that cannot be written, before anything is measured.

    Raises:
        ValueError: It cannot.
    """
    target = Path(path)
    existed = target.exists()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.open('a').close()
    except OSError as error:
        raise ValueError(f'--json {path}: cannot be written ({error.strerror})') from error
    if not existed:
        target.unlink()


def versions() -> dict[str, str]:
    """Python's, ours, and those of the packages that matter and are installed; OpenCV as its distribution is named."""
    found = dict(python=platform.python_version(), mocox=__version__)
    for name in (*PACKAGES, 'opencv-python-headless', 'opencv-python', 'simplejpeg'):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def device_name(device: str) -> str:
    """The GPU's name, or the processor's with the number of threads in use."""
    if device == 'cuda':
        return torch.cuda.get_device_name()
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []  # Linux only
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return f'{names[0] if names else platform.processor()}, {torch.get_num_threads()} of {os.cpu_count()} threads'


def require_device(device: str) -> None:
    """Refuse a GPU that is not there.

    Raises:
        ValueError: ``cuda`` without a GPU.
    """
    if device == 'cuda' and not torch.cuda.is_available():
        raise ValueError('--device cuda: torch sees no GPU here; use --device cpu')


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, padded to be read in a terminal as well."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [header, ['-' * width for width in widths], *rows]
    return '\n'.join('| ' + ' | '.join(cell.ljust(width) for cell, width in zip(line, widths)) + ' |' for line in lines)
