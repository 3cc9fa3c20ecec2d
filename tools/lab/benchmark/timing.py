"""Timing in interleaved rounds: A B A B ..., so that whatever slows a machine for a while slows every contender."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch


class Ratio(NamedTuple):
    """Speed-up of one contender over another: the median of the rounds, and their range."""

    median: float
    smallest: float
    largest: float


@dataclass(frozen=True)
class Timings:
    """Seconds that each contender took in each counted round."""

    seconds: dict[str, list[float]]

    def median(self, name: str) -> float:
        """Median seconds of one contender."""
        return statistics.median(self.seconds[name])

    def spread(self, name: str) -> tuple[float, float]:
        """Shortest and longest round of one contender, in seconds."""
        return min(self.seconds[name]), max(self.seconds[name])

    def speedup(self, name: str, other: str) -> Ratio:
        """The other's seconds over this one's, round by round: above 1 where this one is faster."""
        ratios = [theirs / ours for ours, theirs in zip(self.seconds[name], self.seconds[other], strict=True)]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def interleave(contenders: dict[str, Callable[[], object]], rounds: int, device: str = 'cpu') -> Timings:
    """Run the contenders in turn, one round more than requested, and drop the first, which warms up.

    Args:
        contenders: What to time, by name; all should do the same amount of work.
        rounds: Rounds that count, at least 1.
        device: ``cuda`` times with events on the GPU, ``cpu`` with the clock.

    Raises:
        ValueError: ``rounds`` is below 1.
    """
    if rounds < 1:
        raise ValueError(f'rounds={rounds}: at least one round must count')
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    gc.collect()
    for round_index in range(rounds + 1):
        for name, run in contenders.items():
            elapsed = time_call(run, device)
            if round_index:
                seconds[name].append(elapsed)
    return Timings(seconds)


def time_call(run: Callable[[], object], device: str) -> float:
    """Seconds of one call; on a GPU those of the work it queued there."""
    if device == 'cpu':
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3
