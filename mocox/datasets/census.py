"""A look at some files before they are trained on: which numbers they hold, and what of them is not used."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mocox.datasets.pixels import Pixels, Raw
from mocox.datasets.readers import PNG, read_raw

if TYPE_CHECKING:
    from mocox.datasets.encoded_images import EncodedImages

ORDINARY = (b'.jpg', b'.jpeg', b'.jpe', b'.jfif', b'.webp', b'.bmp')  # 8 bits of gray or colour, one page
SMALL_SHARE = 0.25  # of its range, below which an image is dark or flat


@dataclass
class Census:
    """What was found in some files.

    Args:
        pixels: How they are to be read.
        num: Files of more than 8 bits.
        low: Smallest number in them.
        high: Largest number.
        black: Smallest number of the ranges that were used.
        white: Largest number of those.
        unused: Files by what of them is not used.
        types: Files by type of number and bands.
    """

    pixels: Pixels
    num: int = 0
    low: float = np.inf
    high: float = -np.inf
    black: float = np.inf
    white: float = -np.inf
    unused: Counter = field(default_factory=Counter)
    types: Counter = field(default_factory=Counter)

    def add(self, raw: Raw) -> None:
        """Counts one file."""
        bands = raw.bands.shape[2]
        self.types[f'{raw.bands.dtype}, {bands} band{"s" * (bands != 1)}'] += 1
        if raw.pages > 1:
            self.unused['further pages or frames than the first'] += 1
        chosen = self.pixels.choose(raw)
        if chosen.shape[2] < bands and self.pixels.num_channels != 1:
            only_alpha = raw.has_alpha and chosen.shape[2] == bands - 1
            self.unused['alpha' if only_alpha else f'{bands - chosen.shape[2]} of {bands} bands'] += 1
        if raw.bands.dtype == np.uint8:
            return
        finite = chosen[np.isfinite(chosen)] if chosen.dtype.kind == 'f' else chosen
        if finite.size:
            self.num += 1
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))
        black, white = self.pixels.range_of(raw, chosen)
        self.black, self.white = min(self.black, black), max(self.white, white)

    @property
    def share(self) -> float:
        """Of the range that is used."""
        return (self.high - self.low) / (self.white - self.black)

    def notes(self) -> list[tuple[int, str]]:
        """In words, each with a level of :mod:`logging`."""
        found = [
            (logging.INFO, f'not used of {number} files looked at: {what}') for what, number in self.unused.items()
        ]
        if self.num and self.pixels.value_range == 'percentile':
            found.append((logging.INFO, "value_range='percentile': every image is stretched by itself"))
        elif self.num:
            low, high, black, white = (f'{value:g}' for value in (self.low, self.high, self.black, self.white))
            text = (
                f'{self.num} images looked at have more than 8 bits: numbers from {low} to {high}, {self.share:.0%} of '
                f'the range {black} to {white} that black and white are taken for'
            )
            dark = self.share < SMALL_SHARE
            cure = f'; set train_dataloader.dataset.value_range="{suggest_range(self.low, self.high)}"' if dark else ''
            found.append((logging.WARNING if dark else logging.INFO, text + cure))
        return found


def suggest_range(low: float, high: float) -> str:
    """A pair for the command line that holds these numbers; whole ones from 0 up to a power of 2 where that fits."""
    if low >= 0 and low == int(low) and high == int(high) and high > 1:
        return f'(0,{2 ** int(high).bit_length() - 1})'
    return f'({low:g},{high:g})'


def describe_sample(images: 'EncodedImages', num: int) -> list[tuple[int, str]]:
    """Notes on up to ``num`` files, evenly spread; those that cannot be read are left to others."""
    census = Census(images.pixels)
    for index in np.unique(np.linspace(0, len(images) - 1, num).astype(int)).tolist():
        if images._paths[index].lower().endswith(ORDINARY):
            continue
        try:
            data = images.read_bytes(index)
            if not is_ordinary(data):
                census.add(read_raw(data))
        except Exception:  # whatever a library raises: the data set says so when it comes to the file
            continue
    return census.notes()


def is_ordinary(data: bytes) -> bool:
    """A JPEG, or a PNG of 8 bits without alpha: nothing to be said about it."""
    return data.startswith(b'\xff\xd8') or (data.startswith(PNG) and data[24] <= 8 and data[25] in (0, 2, 3))
