"""Check before the first step that the checkpoints of a run fit onto the disk."""

import shutil
from math import ceil
from pathlib import Path
from typing import Any

from mmengine.runner import Runner

from mocox import dist

STATES = {'SGD': 1, 'LARS': 1, 'AdamW': 2, 'Adam': 2}  # numbers that an optimizer keeps per weight
GB = 1e9


def check_space(runner: Runner, folder: Path, kept: int) -> None:
    """Compare the free space with the size of the kept checkpoints; warn where they do not all fit.

    Args:
        runner: About to train.
        folder: Folder of the checkpoints; existing ones count as written.
        kept: Number of checkpoints kept.

    Raises:
        ValueError: Not even one fits.
    """
    size, files = checkpoint_bytes(runner), kept + 1  # the oldest is removed once the next has been written
    written = sum(path.stat().st_size for path in folder.glob('*.pth') if path.is_file())
    free = shutil.disk_usage(folder).free
    numbers = f'a checkpoint takes about {size / GB:.3g} GB, and {free / GB:.3g} GB are free in {folder}'
    cure = (
        'free space, choose another --work-dir, keep fewer (default_hooks.checkpoint.max_keep_ckpts=1) or '
        'leave the optimizer out (default_hooks.checkpoint.save_optimizer=False, after which none can be continued)'
    )
    if free < size:
        raise ValueError(f'{numbers}: no checkpoint of this run would fit. Cure: {cure}')
    if free + written < files * size:
        runner.logger.warning(f'{numbers}: the {kept} that are kept, and the next one, do not fit. Cure: {cure}')


def checkpoint_bytes(runner: Runner) -> int:
    """Size of the tensors of the model, of its momentum encoder and queue, and of the optimizer."""
    model = dist.unwrap(runner.model)
    tensors = [*model.parameters(), *model.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    optimizer: Any = getattr(runner.optim_wrapper, 'optimizer', None)
    for group in optimizer.param_groups if optimizer is not None else ():
        states = STATES.get(type(optimizer).__name__, 2) * (group.get('momentum') != 0)
        size += states * sum(weight.numel() * weight.element_size() for weight in group['params'])
    return size


def number_kept(max_keep: int, interval: int, total: int) -> int:
    """Number of checkpoints that a run keeps: the newest ``max_keep``, or all where that is -1; at least the last."""
    made = ceil(total / interval) if interval > 0 else 1
    return max(1, made if max_keep < 1 else min(max_keep, made))
