"""Convert the numbers of an image file to the levels for training: bands, range, bits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mocox.datasets.number_ranges import percentiles, type_range
from mocox.datasets.raw import Raw

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2, as in Pillow's convert('L')
PERCENTILES = (1, 99)  # of 'percentile'
MAX_LEVEL = 255
MAX_CHANNELS = 512  # OpenCV's limit
DTYPES: dict[int, np.dtype] = {8: np.dtype(np.uint8), 16: np.dtype(np.uint16), 32: np.dtype(np.float32)}


@dataclass(frozen=True)
class Pixels:
    """Channels and value range of images: one setting for training, evaluation and features.

    Args:
        channels: None: red, green and blue, and gray images become such. A number: images with so many bands (1 also
            takes the luma of colour images, 3 also gray ones). A list: these bands of the file, counted from 0.
        value_range: The numbers that become black and white. ``'auto'``: what the file says (bits per sample, DICOM's
            window), else all that its type can hold, up to 16 bits; for other types ``auto_range``. A pair: these, for
            every image of more than 8 bits; the unit is
            the file's (Hounsfield units, reflectance). ``'dtype'``: all that the type can hold, 0 to 1 for floating
            point. ``'percentile'``: the 1st and 99th percentile of each image, which thereby loses its absolute
            brightness.
        depth: Bits of a crop: 8, 16 (twice the memory of the loaders) or 32 (floating point, four times). By default 16
            where ``value_range`` is a pair of more than 256 steps, else 8; a data set of files takes 16 where most of
            its files have more than 256 steps. Levels are 0 to 255 in the preprocessor all the same; more bits are
            digits after the point.
        nodata: The number that stands for a missing value in files of more than 8 bits which name none; it becomes
            black and is not measured. Under ``'auto'`` a data set of files finds one in images of floating point and
            of 32 bits.
        auto_range: Black and white under ``'auto'`` of images of 32 bits and of floating point that say none; the same
            for all. A data set of files measures it on some of them.

    Raises:
        ValueError: A value that cannot be.
    """

    channels: int | tuple[int, ...] | None = None
    value_range: str | tuple[float, float] = 'auto'
    depth: int | None = None
    auto_range: tuple[float, float] | None = None
    nodata: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.channels, list | tuple):
            object.__setattr__(self, 'channels', tuple(self.channels))
        if isinstance(self.value_range, list | tuple):
            object.__setattr__(self, 'value_range', tuple(self.value_range))
        _check_channels(self.channels)
        if isinstance(self.auto_range, list):
            object.__setattr__(self, 'auto_range', tuple(self.auto_range))
        _check_range(self.value_range)
        if self.auto_range is not None and not _is_pair(self.auto_range):
            raise ValueError(f'auto_range must be a pair (low, high) or None, got {self.auto_range!r}')
        if self.nodata is not None and (isinstance(self.nodata, bool) or not isinstance(self.nodata, int | float)):
            raise ValueError(f'nodata must be a number or None, got {self.nodata!r}')
        if self.depth not in (None, *DTYPES):
            raise ValueError(f'depth must be 8, 16 or 32 bits, or None, got {self.depth!r}')

    @property
    def measures_range(self) -> bool:
        """True if black and white level are to be measured in images that do not state them."""
        return self.value_range == 'auto' and self.auto_range is None

    @property
    def measures_depth(self) -> bool:
        """True if the bits of a crop are to be measured in the images."""
        return self.depth is None and isinstance(self.value_range, str)

    @property
    def num_channels(self) -> int:
        """Of a crop."""
        if isinstance(self.channels, tuple):
            return len(self.channels)
        return 3 if self.channels is None else self.channels

    @property
    def bits(self) -> int:
        """Of a crop."""
        if self.depth:
            return self.depth
        if isinstance(self.value_range, str):
            return 8
        low, high = self.value_range
        return 8 if isinstance(low, int) and isinstance(high, int) and high - low < 256 else 16

    @property
    def is_rgb8(self) -> bool:
        """True if an 8-bit image is taken as any program shows it."""
        return self.channels in (None, 3) and self.bits == 8 and self.value_range != 'percentile'

    def settings(self) -> dict[str, Any]:
        """The settings that differ from the defaults, in serialisable types; empty for 8-bit RGB."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.items()
            if value != getattr(Pixels, name)
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any] | None) -> 'Pixels':
        """The inverse of :meth:`settings`; other keys are left alone."""
        settings = settings or {}
        return cls(**{name: settings[name] for name in cls.__dataclass_fields__ if name in settings})

    def __call__(self, raw: Raw) -> np.ndarray:
        """Choose the bands and scale their numbers.

        Returns:
            (H, W, C) uint8 (0 to 255), uint16 (0 to 65535) or float32 (0 to 255), by ``bits``.

        Raises:
            ValueError: The file has other bands, or numbers without a range.
        """
        raw = self.with_nodata(raw)
        bands = self.choose(raw)
        low, high = self.range_of(raw, bands)
        levels = self._scale(bands, low, high)
        if raw.is_inverted:
            levels = _white(levels.dtype) - levels
        if raw.nodata is not None:
            levels = np.where(bands == raw.nodata, levels.dtype.type(0), levels)
        return np.ascontiguousarray(levels)

    def with_nodata(self, raw: Raw) -> Raw:
        """Apply the configured marker of missing values to a file that states none."""
        told = raw.nodata is not None or self.nodata is None or raw.bands.dtype == np.uint8
        return raw if told else raw._replace(nodata=self.nodata)

    def choose(self, raw: Raw) -> np.ndarray:
        """The bands that count, (H, W, C), their numbers as they are.

        Raises:
            ValueError: The file has others.
        """
        bands, total = raw.bands, raw.bands.shape[2]
        useful = total - raw.has_alpha
        if isinstance(self.channels, tuple):
            if max(self.channels) >= total:
                raise ValueError(f'{_bands(raw)}, counted from 0: channels={list(self.channels)} asks for others')
            return bands[:, :, list(self.channels)]
        wanted = self.num_channels
        if wanted in (total, useful) or (wanted == 3 and raw.is_colour):
            return bands[:, :, :wanted]
        if wanted == 3 and useful == 1:
            return bands[:, :, :1].repeat(3, axis=2)
        if wanted == 1 and raw.is_colour:
            return _luma(bands)
        some = list(range(3))
        asked = f', and channels={self.channels}' if self.channels else ''
        raise ValueError(
            f'{_bands(raw)}{asked}: set channels={useful} of the dataset, or choose some, such as channels={some}'
        )

    def range_of(self, raw: Raw, bands: np.ndarray) -> tuple[float, float]:
        """The numbers that become black and white.

        Raises:
            ValueError: Nothing says so.
        """
        own = None if raw.low is None or raw.high is None else (raw.low, raw.high)
        if self.value_range == 'percentile':
            return percentiles(raw.finite(bands), PERCENTILES)
        if isinstance(self.value_range, tuple):
            return own if raw.bands.dtype.itemsize == 1 and own is not None else self.value_range
        if self.value_range == 'dtype':
            return type_range(raw.bands.dtype) or (0.0, 1.0)
        if own is not None:
            return own
        if self.auto_range is not None:
            return self.auto_range
        low, high = float(np.nanmin(raw.bands)), float(np.nanmax(raw.bands))
        if raw.bands.dtype.kind in 'iu' and low >= 0 and high <= 65535:
            return 0, 65535
        raise ValueError(
            f'an image of {raw.bands.dtype} numbers, here from {low:g} to {high:g}, has no fixed range: set '
            f'value_range=(LOW, HIGH) of the dataset (mocox doctor measures it), or convert it to 8 or 16 bits per '
            'channel'
        )

    def _scale(self, bands: np.ndarray, low: float, high: float) -> np.ndarray:
        dtype = DTYPES[self.bits]
        if bands.dtype == dtype == np.uint8 and (low, high) == (0, MAX_LEVEL):
            return bands
        top = _white(dtype)
        exact = bands.dtype.itemsize <= 2 or bands.dtype == np.float32  # float32 holds all of these
        with np.errstate(over='ignore'):  # infinity is cut off below
            values = np.subtract(bands, low, dtype=np.float32 if exact else np.float64)
            values *= top / (high - low)
        if bands.dtype.kind == 'f':
            np.nan_to_num(values, copy=False, nan=0, posinf=top, neginf=0)
        np.clip(values, 0, top, out=values)
        return values.astype(dtype) if dtype.kind == 'f' else np.rint(values, out=values).astype(dtype)


def to_rgb8(levels: np.ndarray) -> np.ndarray:
    """Levels as an RGB picture (H, W, 3) uint8 of the first three channels, or of the only one.

    Args:
        levels: (H, W, C) uint8, uint16 or float32, as :class:`Pixels` gives them.
    """
    if levels.dtype == np.uint16:
        levels = np.rint(levels / 257).astype(np.uint8)
    elif levels.dtype != np.uint8:
        levels = np.rint(levels).clip(0, MAX_LEVEL).astype(np.uint8)
    if levels.shape[2] == 3:
        return levels
    return levels[:, :, [min(i, levels.shape[2] - 1) for i in range(3)] if levels.shape[2] > 1 else [0, 0, 0]]


def _white(dtype: np.dtype) -> int:
    return 65535 if dtype == np.uint16 else MAX_LEVEL


def _luma(bands: np.ndarray) -> np.ndarray:
    gray = bands[:, :, :3].astype(np.float64) @ LUMA
    return (gray if bands.dtype.kind == 'f' else np.rint(gray)).astype(bands.dtype)[:, :, None]


def _bands(raw: Raw) -> str:
    total = raw.bands.shape[2]
    return f'{raw.name} of {total} band{"s" * (total != 1)}'


def _check_channels(channels: Any) -> None:
    whole = [channels] if isinstance(channels, int) else channels
    low = 1 if isinstance(channels, int) else 0
    if channels is not None and not (
        isinstance(whole, list | tuple)
        and 0 < len(whole) <= MAX_CHANNELS
        and all(isinstance(value, int) and not isinstance(value, bool) and low <= value <= 65535 for value in whole)
        and (not isinstance(channels, int) or channels <= MAX_CHANNELS)
    ):
        raise ValueError(f'channels must be a number from 1 to {MAX_CHANNELS} or a list of bands, got {channels!r}')


def _check_range(value_range: Any) -> None:
    if value_range in ('auto', 'dtype', 'percentile'):
        return
    if not _is_pair(value_range):
        raise ValueError(
            f"value_range must be 'auto', 'dtype', 'percentile' or a pair (low, high), got {value_range!r}"
        )


def _is_pair(value: Any) -> bool:
    pair = isinstance(value, tuple) and len(value) == 2 and all(isinstance(number, int | float) for number in value)
    return pair and -np.inf < value[0] < value[1] < np.inf


RGB = Pixels()
