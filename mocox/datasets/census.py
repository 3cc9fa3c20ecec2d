"""A look at some files before they are trained on: which numbers they hold, and what of them is not used."""

import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mocox.datasets.deep_jpeg import is_deep_jpeg
from mocox.datasets.dicom import is_dicom
from mocox.datasets.kinds import MEASURED, SMALL_SHARE, Kind, without_marker
from mocox.datasets.number_ranges import percentiles
from mocox.datasets.pixels import MAX_LEVEL, Pixels, Raw
from mocox.datasets.readers import PNG, read_raw

if TYPE_CHECKING:
    from mocox.datasets.encoded_images import EncodedImages

JPEG = (b'.jpg', b'.jpeg', b'.jpe', b'.jfif')
ORDINARY = (*JPEG, b'.webp', b'.bmp')  # 8 bits of gray or colour, one page
FRAMES = 'further pages or frames than the first'
SETTING = 'train_dataloader.dataset.'


@dataclass
class Census:
    """What was found in some files.

    Args:
        pixels: How they are to be read.
        looked_at: Files, ordinary ones among them.
        plain: Of them, those of 8 bits.
        kinds: Those of more bits that say a range, by format and type of numbers.
        unknown: Those of more bits that say none.
        unused: Files by what of them is not used.
        frames: In all files of several.
    """

    pixels: Pixels
    looked_at: int = 0
    plain: int = 0
    kinds: dict[str, Kind] = field(default_factory=dict)
    unknown: Kind = field(default_factory=Kind)
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
            self.plain += 1
            return
        values = self.pixels.with_nodata(raw).finite(chosen)
        if not values.size:
            return
        if self.pixels.measures_range and raw.low is None:
            self.unknown.add(values)
            self.unknown.deep += 1
            return
        name = f'{raw.name.removeprefix("a ")} of {raw.bands.dtype.name}'
        kind = self.kinds.setdefault(name, Kind(name))
        _, high = kind.add(values)
        black, white = self.pixels.range_of(raw, chosen)
        kind.deep += raw.bands.dtype.kind == 'f' or white - black > MAX_LEVEL
        is_asked = isinstance(self.pixels.value_range, tuple)
        kind.dim += not is_asked and high - black < SMALL_SHARE * (white - black)
        kind.black, kind.white = min(kind.black, black), max(kind.white, white)

    def fit(self) -> Pixels:
        """How the files are to be read, with what the setting leaves to them: black and white, bits of a crop."""
        pixels = self.pixels
        if self.unknown.num:
            numbers, marker = without_marker(self.unknown.numbers)
            low, high = self.unknown.black, self.unknown.white = percentiles(numbers, MEASURED)
            pixels = replace(pixels, auto_range=(low, high), nodata=marker if pixels.nodata is None else pixels.nodata)
        deep = sum(kind.deep for kind in (self.unknown, *self.kinds.values()))
        if pixels.measures_depth and 2 * deep > self.looked_at:
            pixels = replace(pixels, depth=16)
        self.pixels = pixels
        return pixels

    def suggest(self) -> dict[str, Any]:
        """Settings for files that would be dark, or cut off: a range that suits all, else each by itself; often none.

        Returns:
            ``value_range``, and ``nodata`` where needed, of the data set.
        """
        dark = next((kind for kind in self.kinds.values() if kind.is_dark()), None)
        if dark is None or self.pixels.value_range == 'percentile':
            return {}
        found, others = dark.suggest(), [kind for kind in self.kinds.values() if kind is not dark]
        others += [self.unknown] if self.unknown.num else []
        low, high = found['value_range']
        if not dark.is_mixed() and dark.fits(low, high) and all(kind.fits(low, high) for kind in others):
            return found
        return dict(value_range='percentile')

    def notes(self) -> list[tuple[int, str]]:
        """In words, each with a level of :mod:`logging`."""
        found = [(logging.INFO, self._describe_unused(what)) for what in self.unused]
        deep = self.unknown.num + sum(kind.num for kind in self.kinds.values())
        if self.unknown.num:
            found += self._describe_unknown(deep)
        if deep and self.pixels.value_range == 'percentile':
            found.append((logging.INFO, "value_range='percentile': every image is stretched by itself"))
        elif deep:
            found += [self._describe_kind(kind) for kind in self.kinds.values()] or [
                (logging.INFO, self.unknown.describe(self.pixels.bits))
            ]
        if deep and self.plain:
            text = f'the other {self.plain} images looked at have 8 bits: black is 0 and white {MAX_LEVEL}'
            found.append((logging.INFO, text))
        return found

    def _describe_unused(self, what: str) -> str:
        files = self.unused[what]
        how_many = f' ({self.frames - files:,} of {self.frames:,})' if what == FRAMES else ''
        return f'not used of {files} files looked at: {what}{how_many}'

    def _describe_unknown(self, deep: int) -> list[tuple[int, str]]:
        kind, found = self.unknown, []
        _, marker = without_marker(kind.numbers)
        text = (
            f'{kind.num} images looked at say no range (floating point, 32 bits): black is {kind.black:g} and '
            f'white {kind.white:g}, {MEASURED[0]} and {MEASURED[1]} % of their numbers lie below'
        )
        if others := deep - kind.num:  # a pair would make these black
            text += f'; the other {others} of more than 8 bits keep the ranges that they say'
        else:
            cut = dict(nodata=marker) if marker is not None and marker > kind.white else {}
            text += f'; set {_words(dict(value_range=(kind.black, kind.white)) | cut)}'
        found.append((logging.INFO, text))
        if marker is not None:
            share = float((kind.numbers == marker).mean())
            found.append((logging.WARNING, (
                f'{share:.1%} of the numbers are {marker:g}, far from all others: they are taken for missing values, '
                'become black and are not measured'
            )))  # fmt: skip
        return found

    def _describe_kind(self, kind: Kind) -> tuple[int, str]:
        text = (kind if len(self.kinds) > 1 else replace(kind, name='')).describe(self.pixels.bits)
        if kind.is_dark():
            return logging.WARNING, f'{text}; set {_words(self.suggest())}'
        if kind.deep and self.pixels.bits == 8:
            text += f', which keep not all of their steps; set {SETTING}depth=16'
        return logging.INFO, text


def _words(settings: dict[str, Any]) -> str:
    """Settings as they are given on a command line; a marker with all its digits."""
    return ' '.join(
        f'{SETTING}{name}="({value[0]:g},{value[1]:g})"'
        if isinstance(value, tuple)
        else f'{SETTING}{name}={str(value).removesuffix(".0")}'
        for name, value in settings.items()
    )


def take_census(images: 'EncodedImages', num: int) -> Census:
    """Looks at up to ``num`` files, evenly spread; those that cannot be read are left to others."""
    census, are_plain = Census(images.pixels), False  # whether JPEGs have 8 bits, as the first of them has
    for index in np.unique(np.linspace(0, len(images) - 1, num).astype(int)).tolist():
        census.looked_at += 1
        name = images._paths[index].lower()
        if name.endswith(ORDINARY) and (are_plain or not name.endswith(JPEG)):
            census.plain += 1
            continue
        try:
            data = images.read_bytes(index)
            if not is_ordinary(data):
                raw = read_raw(data, images.frame(index))
                all_used = images.frames == 'all' and is_dicom(data)
                census.add(raw._replace(pages=1) if all_used else raw)
            else:
                census.plain += 1
                are_plain |= name.endswith(JPEG)
        except Exception:  # whatever a library raises: the data set says so when it comes to the file
            continue
    return census


def is_ordinary(data: bytes) -> bool:
    """A JPEG or a PNG of 8 bits, without alpha: nothing to be said about it."""
    return (data.startswith(b'\xff\xd8') and not is_deep_jpeg(data)) or (
        data.startswith(PNG) and data[24] <= 8 and data[25] in (0, 2, 3)
    )
