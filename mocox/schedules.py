"""Pure schedule formulas of the papers: no torch, no state."""

from math import cos, exp, log, pi


def cosine(progress: float, start: float, end: float) -> float:
    """Half a cosine from ``start`` (progress 0) to ``end`` (progress 1)."""
    return end + (start - end) * (1 + cos(pi * progress)) / 2


def warmup_cosine(
    step: float, base: float, warmup: float, total: float, minimum: float = 0.0, start_ratio: float = 0.0
) -> float:
    """Linear warm-up from ``start_ratio * base`` (zero in MoCo v3), then half a cosine down to ``minimum``.

    Source: arXiv 2104.02057, section 5. All of ``step``, ``warmup``, ``total`` share one unit (epochs or iterations).

    Args:
        step: Progress so far, starting at 0: the first value of a schedule warmed up from 0 is exactly 0.
        base: The peak value, reached at ``step == warmup``.
        warmup: Duration of the linear ramp.
        total: Duration of the whole schedule, warm-up included.
        minimum: Value at ``step == total``.
        start_ratio: Where the warm-up starts, as a fraction of ``base``.
    """
    if step < warmup:
        return base * (start_ratio + (1 - start_ratio) * step / warmup)
    return cosine((step - warmup) / (total - warmup), base, minimum)


def momentum_cosine(progress: float, base: float, end: float = 1.0) -> float:
    """Coefficient of the old key weights after a fraction ``progress`` of training (arXiv 2104.02057, appendix A)."""
    return end - (end - base) * (1 + cos(pi * progress)) / 2


def in_batch_chance_level(num_keys: int, temperature: float) -> float:
    """Loss in nats of MoCo v3 whose queries cannot tell the keys apart: two directions times ``2 T ln(num_keys)``."""
    return 4 * temperature * log(num_keys)


def queue_chance_level(num_keys: int, length: int, temperature: float) -> float:
    """Loss in nats of MoCo v1 and v2 whose queries cannot tell their positive from the keys in the queue.

    The ``length - num_keys`` random vectors that a young queue still holds are told apart by themselves: their cosine
    is about 0 where that of real keys is 1. A full queue gives ``ln(length + 1)``.
    """
    return log(1 + num_keys + (length - num_keys) * exp(-1 / temperature))
