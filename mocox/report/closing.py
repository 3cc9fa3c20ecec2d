"""The last lines of a training on the console: its results, and what to do with them."""

import shlex
from pathlib import Path

from mmengine.runner import Runner

from mocox import dist
from mocox.engine.opening import short
from mocox.models.algorithms import MomentumContrast
from mocox.terminal import one_line


def next_commands(checkpoint: str) -> list[tuple[str, str]]:
    """Commands for a pre-trained encoder, each with its purpose; ``checkpoint`` as a shell takes it."""
    return [
        (f'mocox evaluate {checkpoint} --data-root DIR', 'labelled images: k-NN, linear probe and more'),
        (f'mocox search IMAGE --folder DIR --checkpoint {checkpoint}', 'similar images, as a picture'),
        (f'mocox extract {checkpoint} backbone.pth', 'the backbone alone, for a detector or a classifier'),
    ]


def describe_end(runner: Runner) -> str:
    """The files and, after a pre-training, the next three commands."""
    folder = Path(runner.work_dir)
    noted = folder / 'last_checkpoint'
    checkpoint = short(noted.read_text().strip()) if noted.is_file() else None
    report = folder / 'report.html'
    lines = [f'  weights  {checkpoint}'] if checkpoint else []
    lines += [f'  report   {short(report)}'] if report.is_file() else []
    lines = ['Written', *lines, f'  log      {short(folder / runner.timestamp)}']
    if checkpoint and isinstance(dist.unwrap(runner.model), MomentumContrast):
        lines += [
            'Next',
            *(f'  {command}     {purpose}' for command, purpose in next_commands(shlex.quote(checkpoint))),
        ]
    return '\n'.join(map(one_line, lines))
