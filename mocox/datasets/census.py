"""Census of some files before training: their value ranges, and the content that is not used."""

import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mocox.datasets.kinds import MEASURED, SMALL_SHARE, Kind, without_marker
from mocox.datasets.number_ranges import percentiles
from mocox.datasets.pixels import MAX_LEVEL, Pixels
from mocox.datasets.raw import Raw
from mocox.datasets.readers import DICOM, read_raw
from mocox.datasets.survey import current_survey, is_ordinary

if TYPE_CHECKING:
    from mocox.datasets.encoded_images import EncodedImages

JPEG = (b'.jpg', b'.jpeg', b'.jpe', b'.jfif')
ORDINARY = (*JPEG, b'.webp', b'.bmp')  # 8 bits of gray or colour, one page
PHOTOGRAPH = Raw(np.zeros((1, 1, 3), np.uint8), 0, MAX_LEVEL, is_colour=True)
FRAMES = 'further pages or frames than the first'
SETTING = 'train_dataloader.dataset.'


@dataclass
class Census:
    """Statistics of the pixel formats of some files.

    Args:
        pixels: How the files are read.
        looked_at: Files, ordinary ones among them.
        plain: Number of files of 8 bits.
        kinds: Files of more bits with a stated range, by format and type of numbers.
        unknown: Files of more bits without one.
        bands: Files by how many bands they have, alpha not counted; of ordinary ones three.
        misfits: Files with other bands than asked for.
        unused: Files by what of them is not used.
        frames: In all files of several.
    """

    pixels: Pixels
    looked_at: int = 0
    plain: int = 0
    kinds: dict[str, Kind] = field(default_factory=dict)
    unknown: Kind = field(default_factory=Kind)
    bands: Counter = field(default_factory=Counter)
    misfits: Counter = field(default_factory=Counter)
    unused: Counter = field(default_factory=Counter)
    frames: int = 0

    def add(self, raw: Raw) -> None:
        """Look at one file that is not ordinary."""
        chosen = self._choose(raw)
        if chosen is None:
            return
        bands = raw.bands.shape[2]
        if raw.pages > 1:
            self.unused[FRAMES] += 1
            self.frames += raw.pages
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

    def add_ordinary(self, raw: Raw | None = None) -> None:
        """Count one file, as red, green and blue where its bands are unknown."""
        self.plain += self._choose(PHOTOGRAPH if raw is None else raw) is not None

    def _choose(self, raw: Raw) -> np.ndarray | None:
        """The bands in use; None where the file has others."""
        count = raw.bands.shape[2] - raw.has_alpha
        self.bands[count] += 1
        try:
            return self.pixels.choose(raw)
        except ValueError:
            self.misfits[count] += 1
            return None

    @property
    def num_fitting(self) -> int:
        """Files that have the requested bands."""
        return self.bands.total() - self.misfits.total()

    def fit(self) -> Pixels:
        """Complete the pixel settings from the files: black and white level, bits of a crop."""
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
        """Suggest settings for files that would be dark or clipped: a common range, else one for each; often none.

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
        """Describe the files in words, each line with a level of :mod:`logging`."""
        found = [(logging.INFO, self._describe_unused(what)) for what in self.unused]
        if self.misfits and self.num_fitting:
            found.append((logging.WARNING, self.describe_misfits()))
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

    def describe_misfits(self) -> str:
        """Count files by their bands, and name the cure."""
        kinds = ', '.join(f'{number} of {describe_bands(count)}' for count, number in sorted(self.bands.items()))
        return (
            f'{self.misfits.total()} of {self.bands.total()} files looked at have other bands than '
            f'{_asked(self.pixels)} and are left out ({kinds}); set {SETTING}channels={shared_bands(self.bands)} for '
            'the first that all of them have, or keep each kind in a folder of its own'
        )

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
    """Settings as command-line arguments; a marker with all its digits."""
    return ' '.join(
        f'{SETTING}{name}="({value[0]:g},{value[1]:g})"'
        if isinstance(value, tuple)
        else f'{SETTING}{name}={str(value).removesuffix(".0")}'
        for name, value in settings.items()
    )


def describe_bands(count: int) -> str:
    """The number of bands in words."""
    return f'{count} band{"s" * (count != 1)}'


def shared_bands(bands: Counter) -> str:
    """The first bands that all files have, as the value of ``channels`` on a command line."""
    return str(list(range(min(bands)))).replace(' ', '')


def _asked(pixels: Pixels) -> str:
    return 'red, green and blue' if pixels.channels is None else f'channels={pixels.channels}'


def take_census(images: 'EncodedImages', num: int) -> Census:
    """Look at up to ``num`` files, evenly spread, or at those of a survey; unreadable ones are skipped."""
    census, are_plain = Census(images.pixels), False  # whether JPEGs have 8 bits, as the first of them has
    if survey := current_survey():
        for seen in survey.look(images).values():
            census.looked_at += 1
            if seen.raw is not None:
                (census.add_ordinary if seen.is_ordinary else census.add)(_unused_pages(seen.raw, images))
        return census
    for index in np.unique(np.linspace(0, len(images) - 1, num).astype(int)).tolist():
        census.looked_at += 1
        name = images._paths[index].lower()
        if name.endswith(ORDINARY) and (are_plain or not name.endswith(JPEG)):
            census.add_ordinary()
            continue
        try:
            data = images.read_bytes(index)
            if not is_ordinary(data):
                census.add(_unused_pages(read_raw(data, images.frame(index)), images))
            else:
                census.add_ordinary()
                are_plain |= name.endswith(JPEG)
        except Exception:  # whatever a library raises: the data set says so when it comes to the file
            continue
    return census


def _unused_pages(raw: Raw, images: 'EncodedImages') -> Raw:
    """Ignore the page count of a DICOM where each of its frames is an image."""
    return raw._replace(pages=1) if images.frames == 'all' and raw.name == DICOM else raw
