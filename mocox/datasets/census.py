"""A look at some files before they are trained on: which numbers they hold, and what of them is not used."""

import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from mocox.datasets.dicom import is_dicom
from mocox.datasets.number_ranges import percentiles
from mocox.datasets.pixels import MAX_LEVEL, Pixels, Raw
from mocox.datasets.readers import PNG, read_raw

if TYPE_CHECKING:
    from mocox.datasets.encoded_images import EncodedImages

ORDINARY = (b'.jpg', b'.jpeg', b'.jpe', b'.jfif', b'.webp', b'.bmp')  # 8 bits of gray or colour, one page
FRAMES = 'further pages or frames than the first'
NUM_VALUES = 10_000  # of a file that a range is measured on
MEASURED = (0.1, 99.9)  # percentiles that become black and white: a few hot or dead pixels do not count
SMALL_SHARE = 0.25  # of its range, below which an image is dark or flat
FAR_OFF = 3  # times the range of all others: a number that stands for missing values
LARGE_SHARE = 0.25  # of the numbers beyond black and white, above which they were hardly meant


@dataclass
class Census:
    """What was found in some files.

    Args:
        pixels: How they are to be read.
        looked_at: Files, ordinary ones among them.
        num: Of them, those of more than 8 bits.
        deep: Of those, the ones with more than 256 steps between black and white.
        low: Smallest number in those that say a range; in all where none does.
        high: Largest number.
        black: Smallest number of the ranges that the files say; the measured one where none does.
        white: Largest number of those.
        known: Numbers of each file that says a range.
        unknown: Numbers of each file that says none.
        ends: Smallest and largest number of each such file.
        unused: Files by what of them is not used.
        frames: In all files of several.
    """

    pixels: Pixels
    looked_at: int = 0
    num: int = 0
    deep: int = 0
    low: float = np.inf
    high: float = -np.inf
    black: float = np.inf
    white: float = -np.inf
    known: list[np.ndarray] = field(default_factory=list)
    unknown: list[np.ndarray] = field(default_factory=list)
    ends: list[tuple[float, float]] = field(default_factory=list)
    unused: Counter = field(default_factory=Counter)
    frames: int = 0

    def add(self, raw: Raw) -> None:
        """Looks at one file that is not ordinary."""
        bands = raw.bands.shape[2]
        if raw.pages > 1:
            self.unused[FRAMES] += 1
            self.frames += raw.pages
        chosen = self.pixels.choose(raw)
        if chosen.shape[2] < bands and self.pixels.num_channels != 1:
            only_alpha = raw.has_alpha and chosen.shape[2] == bands - 1
            self.unused['alpha' if only_alpha else f'{bands - chosen.shape[2]} of {bands} bands'] += 1
        if raw.bands.dtype == np.uint8:
            return
        values = raw.finite(chosen)
        if not values.size:
            return
        self.num += 1
        low, high = float(values.min()), float(values.max())
        some = values[:: max(1, len(values) // NUM_VALUES)].astype(np.float64)
        if self.pixels.measures_range and raw.low is None:
            self.deep += 1
            self.ends.append((low, high))
            self.unknown.append(some)
            return
        self.known.append(some)
        self.low, self.high = min(self.low, low), max(self.high, high)
        black, white = self.pixels.range_of(raw, chosen)
        self.deep += raw.bands.dtype.kind == 'f' or white - black > MAX_LEVEL
        self.black, self.white = min(self.black, black), max(self.white, white)

    def fit(self) -> Pixels:
        """How the files are to be read, with what the setting leaves to them: black and white, bits of a crop."""
        pixels = self.pixels
        if self.unknown:
            low, high = percentiles(np.concatenate(self.unknown), MEASURED)
            pixels = replace(pixels, auto_range=(low, high))
            if self.num == len(self.unknown):
                self.black, self.white = low, high
                self.low, self.high = min(low for low, _ in self.ends), max(high for _, high in self.ends)
        if pixels.measures_depth and 2 * self.deep > self.looked_at:
            pixels = replace(pixels, depth=16)
        self.pixels = pixels
        return pixels

    def most(self) -> tuple[float, float]:
        """Between which numbers they lie, without a few, or one for what is missing, that stand far off."""
        numbers = without_marker(np.concatenate(self.known or self.unknown))
        low, high = percentiles(numbers, MEASURED)
        low, high = max(self.low, float(np.floor(low))), min(self.high, float(np.ceil(high)))
        return (low, high) if 2 * (high - low) < self.high - self.low else (self.low, self.high)

    def share(self) -> float:
        """Of the range that is used."""
        low, high = self.most()
        return max(0.0, min(high, self.white) - max(low, self.black)) / (self.white - self.black)

    def beyond(self) -> float:
        """Of the numbers those below black or above white."""
        numbers = np.concatenate(self.known or self.unknown)
        return float(((numbers < self.black) | (numbers > self.white)).mean())

    def notes(self) -> list[tuple[int, str]]:
        """In words, each with a level of :mod:`logging`."""
        found = [(logging.INFO, self._describe_unused(what)) for what in self.unused]
        if self.unknown:
            low, high = self.pixels.auto_range or (0, 0)
            text = (
                f'{len(self.unknown)} images looked at say no range (floating point, 32 bits): black is {low:g} and '
                f'white {high:g}, {MEASURED[0]} and {MEASURED[1]} % of their numbers lie below'
            )
            if others := self.num - len(self.unknown):  # a pair would make these black
                text += f'; the other {others} of more than 8 bits keep the ranges that they say'
            elif self._describe_range(self.num)[0] < logging.WARNING:  # which has a better one
                text += f'; set train_dataloader.dataset.value_range="({low:g},{high:g})"'
            found.append((logging.INFO, text))
        if self.num and self.pixels.value_range == 'percentile':
            found.append((logging.INFO, "value_range='percentile': every image is stretched by itself"))
        elif self.num:
            found.append(self._describe_range(self.num - len(self.unknown) or self.num))
        return found

    def _describe_unused(self, what: str) -> str:
        files = self.unused[what]
        how_many = f' ({self.frames - files:,} of {self.frames:,})' if what == FRAMES else ''
        return f'not used of {files} files looked at: {what}{how_many}'

    def _describe_range(self, num: int) -> tuple[int, str]:
        low, high, black, white = (f'{value:g}' for value in (self.low, self.high, self.black, self.white))
        share, beyond, most = self.share(), self.beyond(), self.most()
        nearly_all = '' if most == (self.low, self.high) else f' ({most[0]:g} to {most[1]:g} without those far off)'
        text = (
            f'{num} images looked at have more than 8 bits: numbers from {low} to {high}{nearly_all}, {share:.0%} of '
            f'the range {black} to {white} that black and white are taken for, in crops of {self.pixels.bits} bits'
        )
        if beyond > LARGE_SHARE:
            text += f'; {beyond:.0%} of the numbers lie beyond it'
        if doubtful := share < SMALL_SHARE or beyond > LARGE_SHARE:
            text += f'; set train_dataloader.dataset.value_range="{suggest_range(*most)}"'
        elif self.deep and self.pixels.bits == 8:
            text += ', which keep not all of their steps; set train_dataloader.dataset.depth=16'
        return logging.WARNING if doubtful else logging.INFO, text


def without_marker(numbers: np.ndarray) -> np.ndarray:
    """Numbers without a smallest or largest one that stands for missing values, such as -9999, if it is far off."""
    for marker in {numbers.min(), numbers.max()} - {0}:  # 0 is the black that it would become
        others = numbers[numbers != marker]
        if len(others):
            low, high = percentiles(others, MEASURED)
            if min(abs(marker - low), abs(marker - high)) > FAR_OFF * (high - low):
                numbers = others
    return numbers


def suggest_range(low: float, high: float) -> str:
    """A pair for the command line that holds these numbers; whole ones from 0 up to a power of 2 where that fits."""
    if low >= 0 and low == int(low) and high == int(high) and high > 1:
        return f'(0,{2 ** int(high).bit_length() - 1})'
    return f'({low:g},{high:g})'


def take_census(images: 'EncodedImages', num: int) -> Census:
    """Looks at up to ``num`` files, evenly spread; those that cannot be read are left to others."""
    census = Census(images.pixels)
    for index in np.unique(np.linspace(0, len(images) - 1, num).astype(int)).tolist():
        census.looked_at += 1
        if images._paths[index].lower().endswith(ORDINARY):
            continue
        try:
            data = images.read_bytes(index)
            if not is_ordinary(data):
                raw = read_raw(data, images.frame(index))
                all_used = images.frames == 'all' and is_dicom(data)
                census.add(raw._replace(pages=1) if all_used else raw)
        except Exception:  # whatever a library raises: the data set says so when it comes to the file
            continue
    return census


def is_ordinary(data: bytes) -> bool:
    """A JPEG, or a PNG of 8 bits without alpha: nothing to be said about it."""
    return data.startswith(b'\xff\xd8') or (data.startswith(PNG) and data[24] <= 8 and data[25] in (0, 2, 3))
