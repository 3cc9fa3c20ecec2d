"""The possible and the actual ranges of pixel values."""

import numpy as np

NUM_RANKED = 100_000  # values that percentiles are taken of


def type_range(dtype: np.dtype) -> tuple[int, int] | None:
    """All that a type of whole numbers can hold; None for floating point."""
    if dtype.kind == 'b':
        return 0, 1
    return (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind in 'iu' else None


def fixed_range(dtype: np.dtype) -> tuple[int, int] | tuple[None, None]:
    """The full range of a type of up to 16 bits; the full range of 32 bits is never meant."""
    found = type_range(dtype) if dtype.itemsize <= 2 else None
    return found or (None, None)


def percentiles(values: np.ndarray, which: tuple[float, float]) -> tuple[float, float]:
    """Two percentiles of finite numbers, the second one greater; 0 and 1 of none."""
    if not len(values):
        return 0.0, 1.0
    some = values[:: max(1, len(values) // NUM_RANKED)].astype(np.float64)
    low, high = (float(value) for value in np.percentile(some, which))
    return (low, high) if high > low else (low, low + 1)
