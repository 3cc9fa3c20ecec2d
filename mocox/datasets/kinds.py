"""Value ranges of files of one kind, compared with their black and white level."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mocox.datasets.number_ranges import percentiles

NUM_VALUES = 10_000  # of a file that a range is measured on
MEASURED = (0.1, 99.9)  # percentiles that become black and white: a few hot or dead pixels do not count
SMALL_SHARE = 0.25  # of its range, below which an image is dark or flat
LARGE_SHARE = 0.25  # of numbers beyond black and white, or of dark files, above which they were hardly meant
FAR_OFF = 3  # times the range of all others: a number that stands for missing values
# Those that are written for missing values without a tag; they need not lie so far off.
USUAL_MARKERS = (-999, -9999, -99999, -32767, -32768, 1e20, 9.96921e36, -3.4028235e38, 3.4028235e38)
NEAR = 0.25  # times the range of all others, from which one of them counts
LEAST_MARKED = 0.001  # of all numbers


@dataclass
class Kind:
    """Files of one format and type of numbers.

    Args:
        name: For people.
        num: Files.
        deep: Files with more than 256 steps between black and white.
        dim: Files with no number above ``SMALL_SHARE`` of what black and white are taken for.
        low: Smallest number.
        high: Largest number.
        black: Smallest number that is taken for black.
        white: Largest number that is taken for white.
        parts: Some numbers of each file.
    """

    name: str = ''
    num: int = 0
    deep: int = 0
    dim: int = 0
    low: float = np.inf
    high: float = -np.inf
    black: float = np.inf
    white: float = -np.inf
    parts: list[np.ndarray] = field(default_factory=list)

    def add(self, values: np.ndarray) -> tuple[float, float]:
        """Take the numbers of one file (N,); return its smallest and largest."""
        low, high = float(values.min()), float(values.max())
        self.num, self.low, self.high = self.num + 1, min(self.low, low), max(self.high, high)
        self.parts.append(values[:: max(1, len(values) // NUM_VALUES)].astype(np.float64))
        return low, high

    @property
    def numbers(self) -> np.ndarray:
        """The numbers of all files, concatenated."""
        return np.concatenate(self.parts)

    def most(self) -> tuple[float, float]:
        """Between which numbers they lie, without a few, or one for what is missing, that stand far off."""
        low, high = percentiles(without_marker(self.numbers)[0], MEASURED)
        low, high = max(self.low, float(np.floor(low))), min(self.high, float(np.ceil(high)))
        return (low, high) if 2 * (high - low) < self.high - self.low else (self.low, self.high)

    def share(self, black: float, white: float) -> float:
        """The used share of a range."""
        low, high = self.most()
        return max(0.0, min(high, white) - max(low, black)) / (white - black)

    def beyond(self, black: float, white: float) -> float:
        """The share of numbers below black or above white, without markers of missing values."""
        numbers = without_marker(self.numbers)[0]
        return float(((numbers < black) | (numbers > white)).mean())

    def fits(self, black: float, white: float) -> bool:
        """True if a range leaves these files neither dark nor clipped."""
        return self.share(black, white) >= SMALL_SHARE and self.beyond(black, white) <= LARGE_SHARE

    def is_mixed(self) -> bool:
        """True if the range suits all files together but leaves many dark: 12-bit files among 16-bit ones."""
        return self.dim > LARGE_SHARE * self.num and self.fits(self.black, self.white)

    def is_dark(self) -> bool:
        """True if the range is implausible, for all files or for many."""
        return not self.fits(self.black, self.white) or self.is_mixed()

    def suggest(self) -> dict[str, Any]:
        """Settings that fit: ``value_range``, and ``nodata`` where that would become white."""
        low, high = suggest_range(*self.most())
        marker = without_marker(self.numbers)[1]
        return dict(value_range=(low, high)) | (dict(nodata=marker) if marker is not None and marker > high else {})

    def describe(self, bits: int) -> str:
        """Describe the files in words, for crops of so many bits."""
        low, high, black, white = (f'{value:g}' for value in (self.low, self.high, self.black, self.white))
        most, beyond = self.most(), self.beyond(self.black, self.white)
        nearly_all = '' if most == (self.low, self.high) else f' ({most[0]:g} to {most[1]:g} without those far off)'
        kind = f' ({self.name})' if self.name else ''
        text = (
            f'{self.num} images looked at have more than 8 bits{kind}: numbers from {low} to {high}{nearly_all}, '
            f'{self.share(self.black, self.white):.0%} of the range {black} to {white} that black and white are taken '
            f'for, in crops of {bits} bits'
        )
        if beyond > LARGE_SHARE:
            text += f'; {beyond:.0%} of the numbers lie beyond it'
        if self.is_mixed():
            text += f'; {self.dim} of them have no number above {SMALL_SHARE:.0%} of it'
        return text


def without_marker(numbers: np.ndarray) -> tuple[np.ndarray, float | None]:
    """Separate values from a marker of missing values such as -9999; return both."""
    found = None
    for marker in {float(numbers.min()), float(numbers.max())} - {0.0}:  # 0 is the black that it would become
        others = numbers[numbers != marker]
        if len(others) and len(numbers) - len(others) >= LEAST_MARKED * len(numbers):
            low, high = percentiles(others, MEASURED)
            far = NEAR if np.isclose(marker, USUAL_MARKERS, rtol=1e-6).any() else FAR_OFF
            if min(abs(marker - low), abs(marker - high)) > far * (high - low):
                numbers, found = others, marker
    return numbers, found


def suggest_range(low: float, high: float) -> tuple[float, float]:
    """A pair that holds these numbers; whole ones from 0 up to a power of 2 where that fits."""
    if low >= 0 and low == int(low) and high == int(high) and high > 1:
        return 0, 2 ** int(high).bit_length() - 1
    low, high = (int(value) if value == int(value) else value for value in (low, high))
    return (low, high) if high > low else (low, low + 1)
