"""Peak memory of a step by chunk size, beside what the model of it says."""

from dataclasses import asdict
from functools import partial
from typing import Any

from lab.benchmark.run import run
from lab.gpu_day.day import VIT_B, VIT_S, Day, Notes, Piece

GIB = 2**30


def pieces(day: Day, stage: str) -> list[Piece]:
    """ViT-S and ViT-B at 1024."""
    rows = [('ViT-S/16, 1024', 20, VIT_S, [512, 256, 64]), ('ViT-B/16, 1024', 40, VIT_B, [512, 128])]
    rows = rows[: day.size(2, 1)]
    return [Piece(name, seconds, partial(_peaks, day, config, chunks)) for name, seconds, config, chunks in rows]


def _peaks(day: Day, config: str, chunks: list[int], notes: Notes) -> dict[str, Any]:
    batch, size = day.size(1024, 8), day.size(224, 32)
    result = run(
        'memory', None, config, day.options(config), batch, size, day.device, chunk_sizes=[4] if day.tiny else chunks
    )
    peaks, computed = result.details['peaks'], result.details['computed']
    errors = {name: computed[name] / peak - 1 for name, peak in peaks.items() if computed.get(name)}
    listed = ', '.join(
        f'{name}: {peak / GIB:.2f} GiB ({errors.get(name, 0):+.1%} computed)' for name, peak in peaks.items()
    )
    return asdict(result) | dict(errors=errors, text=listed)
