"""Pure schedule formulas of the papers: no torch, no state."""

from math import cos, exp, log, log1p, nan, pi


def cosine(progress: float, start: float, end: float) -> float:
    """Half a cosine from ``start`` (progress 0) to ``end`` (progress 1)."""
    return end + (start - end) * (1 + cos(pi * progress)) / 2


def warmup_cosine(
    step: float,
    base: float,
    warmup: float,
    total: float,
    minimum: float = 0.0,
    start_ratio: float = 0.0,
    warmup_prefix: bool = True,
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
        warmup_prefix: The cosine begins when the warm-up ends. False (MoBY, timm's default): it begins at step 0, and
            the warm-up takes the place of its first part, so that ``base`` itself is never reached.
    """
    if step < warmup:
        return base * (start_ratio + (1 - start_ratio) * step / warmup)
    begin = warmup if warmup_prefix else 0.0
    return cosine((step - begin) / (total - begin), base, minimum)


def momentum_cosine(progress: float, base: float, end: float = 1.0) -> float:
    """Coefficient of the old key weights after a fraction ``progress`` of training (arXiv 2104.02057, appendix A)."""
    return end - (end - base) * (1 + cos(pi * progress)) / 2


def info_nce_floor(num_keys: int, temperature: float) -> float:
    """Least InfoNCE in nats over ``num_keys`` keys, one of them the positive.

    Queries equal their positives, and the ``num_keys`` keys stand as far from each other as that many directions can:
    on a regular simplex, with cosine ``-1 / (num_keys - 1)``. In fewer dimensions than that the floor lies higher, by
    an amount that vanishes with the cosine.
    """
    if num_keys < 2:
        return 0.0
    negatives = num_keys - 1
    return log1p(negatives * exp(-(1 + 1 / negatives) / temperature))


def progress_percent(loss: float, chance: float, floor: float) -> float:
    """Progress of the loss from chance (0) to its floor (100); NaN where the two nearly coincide.

    They coincide as long as a queue holds no real keys, and where there is a single key.
    """
    return 100 * (chance - loss) / (chance - floor) if chance - floor > 0.01 else nan


def in_batch_chance_level(num_keys: int, temperature: float) -> float:
    """Loss in nats of MoCo v3 whose queries cannot tell the keys apart: two directions times ``2 T ln(num_keys)``."""
    return 4 * temperature * log(num_keys)


def in_batch_floor(num_keys: int, temperature: float) -> float:
    """Least loss in nats of MoCo v3: two directions times ``2 T`` times :func:`info_nce_floor`."""
    return 4 * temperature * info_nce_floor(num_keys, temperature)


def queue_chance_level(num_keys: int, length: int, temperature: float) -> float:
    """Loss in nats of MoCo v1 and v2 whose queries cannot tell their positive from the keys in the queue.

    The ``length - num_keys`` random vectors that a young queue still holds are told apart by themselves: their cosine
    is about 0 where that of real keys is 1. A full queue gives ``ln(length + 1)``.
    """
    return log(1 + num_keys + (length - num_keys) * exp(-1 / temperature))
