"""What a run was computed on, for ``environment.json``."""

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from mocox.evaluation.report import software_versions


def describe_environment(world_size: int, device: torch.device | str) -> dict[str, Any]:
    """Describe the environment of a run."""
    is_gpu = torch.device(device).type == 'cuda'
    return dict(
        device=torch.cuda.get_device_name(device) if is_gpu else platform.processor() or platform.machine(),
        processes=world_size,
        system=platform.platform(terse=True),
        git=_git_hash(),
        **software_versions(),
    )


def _git_hash() -> str | None:
    """The commit of the clone that runs, with a + if files were changed; None for an installed package."""
    command = ['git', '-C', str(Path(__file__).parent), 'describe', '--always', '--dirty=+', '--abbrev=12']
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
