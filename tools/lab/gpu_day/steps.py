"""Training steps: against mmpretrain, at an exact large batch, with the switches. All from ``lab.benchmark``."""

from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch

from lab.benchmark.report import Result
from lab.benchmark.run import run
from lab.gpu_day.day import V2_RESNET, V3_RESNET, VIT_B, VIT_S, Day, Notes, Piece
from lab.gpu_day.machine import small_limits

BATCH, EXACT_BATCH, CHUNK = 1024, 4096, 512
PLAIN_NORM = {'model.backbone.norm_cfg': dict(type='BN', _delete_=True)}  # mmpretrain has no groups of BatchNorm
TRIMMED = {'model.backbone.trim_last_block': True}
EXACT = 'ViT-B/16, 4096'
TINY_BATCH = 8
PEERS = ('ViT-S/16, 1024', 'ResNet-50, MoCo v2, 256')  # in a rehearsal
# The same code as another row; tracing takes seconds.
LEFT_OUT = ('ResNet-50, MoCo v3, 512', 'ViT-B/16, 512, compile', 'ViT-S/16, 1024, trim_last_block, compile')


def pieces(day: Day, stage: str) -> list[Piece]:
    """Of the stages ``vit``, ``exact``, ``resnet`` and ``switches``."""
    if stage == 'exact':
        return [Piece(EXACT, 70, lambda notes: exact_batch(day))]
    chunks = {'model.chunk_size': day.size(CHUNK, 4)}
    compiled = {'model.compile': True if not day.tiny else dict(backend='eager')}
    rows = {
        'vit': [
            ('ViT-S/16, 1024', 40, VIT_S, BATCH, {}, True),
            ('ViT-B/16, 512 whole', 45, VIT_B, CHUNK, {}, True),
            ('ViT-B/16, 1024, chunk_size=512', 65, VIT_B, BATCH, chunks, True),
        ],
        'resnet': [
            ('ResNet-50, MoCo v3, 512', 40, V3_RESNET, 512, {}, True),
            ('ResNet-50, MoCo v3, 512, channels_last', 40, V3_RESNET, 512, {'model.channels_last': True}, True),
            ('ResNet-50, MoCo v2, 256', 40, V2_RESNET, 256, PLAIN_NORM, True),
        ],
        'switches': [
            ('ViT-S/16, 1024, compile', 50, VIT_S, BATCH, compiled, False),
            ('ViT-B/16, 512, compile', 60, VIT_B, CHUNK, compiled, False),
            ('ViT-S/16, 1024, trim_last_block', 15, VIT_S, BATCH, TRIMMED, False),
            ('ViT-S/16, 1024, trim_last_block, compile', 50, VIT_S, BATCH, TRIMMED | compiled, False),
        ],
    }[stage]
    if day.tiny:
        rows = [row for row in rows if row[0] not in LEFT_OUT]
    return [
        Piece(name, seconds, partial(_row, day, config, batch, options, with_peer and (not day.tiny or name in PEERS)))
        for name, seconds, config, batch, options, with_peer in rows
    ]


def _row(day: Day, config: str, batch: int, options: dict[str, Any], with_peer: bool, notes: Notes) -> dict[str, Any]:
    return measure(day, config, batch, options, with_peer)


def measure(
    day: Day, config: str, batch: int, options: dict[str, Any], with_peer: bool, rounds: int = 5
) -> dict[str, Any]:
    """One row; alone where the peer does not fit beside it or is not installed.

    Returns:
        What ``tools/benchmark.py step --json`` writes, ``update_share`` and ``remark``.
    """
    remark = ''
    result: Result | None = None
    if with_peer and not find_spec('mmpretrain'):
        with_peer, remark = False, 'mmpretrain is not installed'
    if with_peer:
        try:
            result = _step(day, config, batch, options, 'mmpretrain', rounds)
        except torch.OutOfMemoryError:
            remark = f'mmpretrain does not fit with a batch of {batch}'
            torch.cuda.empty_cache()
    if result is None:
        result = _step(day, config, batch, options, None, rounds)
    found = asdict(result) | dict(update_share=update_share(result), remark=remark)
    return found | dict(text=describe(found))


def _step(day: Day, config: str, batch: int, options: dict[str, Any], against: str | None, rounds: int) -> Result:
    batch, size = day.size(batch, TINY_BATCH), day.size(224, 32)
    with small_limits(day.tiny):
        return run('step', against, config, day.options(config) | options, batch, size, day.device, day.size(rounds, 1))


def update_share(result: Result) -> float:
    """Momentum update and optimizer together, of the step."""
    parts = result.details['milliseconds']
    steps = result.details['setting']['steps']
    return (parts['momentum update']['ours'] + parts['optimizer']['ours']) / (parts['step']['ours'] / steps)


def describe(found: dict[str, Any]) -> str:
    """A line."""
    ratio = f', {found["ratio"]:.2f} x mmpretrain' if found['ratio'] else ''
    remark = f'; {found["remark"]}' if found['remark'] else ''
    return (
        f'{found["ours"]:.0f} images/s{ratio}, {found["share_of_limit"]:.1%} of the matrix rate, update and optimizer '
        f'{found["update_share"]:.1%} of the step{remark}'
    )


def exact_batch(day: Day) -> dict[str, Any]:
    """ViT-B with 4096 images in chunks, and with 1024 in chunks of the same size."""
    options = {'model.chunk_size': day.size(CHUNK, 4)}
    sizes = {'1024': (BATCH, 5), '4096': (EXACT_BATCH, 3)}
    found = {name: measure(day, VIT_B, batch, options, False, rounds) for name, (batch, rounds) in sizes.items()}
    ratio = found['4096']['ours'] / found['1024']['ours']
    return found | dict(ratio=ratio, text=f'{found["4096"]["text"]}; {ratio:.0%} of the images per second at 1024')
