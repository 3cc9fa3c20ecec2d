"""The content of an image file as it is read, before channels are chosen and numbers scaled."""

from typing import NamedTuple

import numpy as np
from PIL import Image

MAX_BYTES = 2**32  # of the numbers of one image


class Raw(NamedTuple):
    """The content of a file, before channels are chosen and values scaled.

    Args:
        bands: (H, W, C), any type of number.
        low: What the file shows black; None where it does not say and its type does not either.
        high: What it shows white.
        has_alpha: The last band is opacity.
        is_colour: The first three bands are red, green, blue.
        is_inverted: The smallest number is white.
        pages: In the file, of which this is the first.
        name: Of the format, for people.
        nodata: The number that stands for a missing value; becomes black.
    """

    bands: np.ndarray
    low: float | None
    high: float | None
    has_alpha: bool = False
    is_colour: bool = False
    is_inverted: bool = False
    pages: int = 1
    name: str = 'image'
    nodata: float | None = None

    def finite(self, bands: np.ndarray) -> np.ndarray:
        """The numbers of some bands that are values, end to end."""
        if bands.dtype.kind == 'f':
            bands = bands[np.isfinite(bands)]
        return bands.reshape(-1) if self.nodata is None else bands[bands != self.nodata]


def with_bands(values: np.ndarray) -> np.ndarray:
    """Values (H, W) as one band (H, W, 1); (H, W, C) unchanged."""
    return values[:, :, None] if values.ndim == 2 else values


def check_size(height: int, width: int, pixel_bytes: int = 1) -> None:
    """Enforce Pillow's limit on the number of pixels in other readers, and a limit on their memory.

    Args:
        height: In pixels.
        width: In pixels.
        pixel_bytes: Of all bands of one pixel.

    Raises:
        PIL.Image.DecompressionBombError: More than twice ``PIL.Image.MAX_IMAGE_PIXELS``, or than ``MAX_BYTES`` bytes.
    """
    if height * width * pixel_bytes > MAX_BYTES:
        raise Image.DecompressionBombError(
            f'{width} x {height} pixels of {pixel_bytes} bytes, more than the {MAX_BYTES} bytes that an image may '
            'have: cut it into tiles'
        )
    if Image.MAX_IMAGE_PIXELS is not None and height * width > 2 * Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(
            f'{width} x {height} pixels, more than {2 * Image.MAX_IMAGE_PIXELS}, twice PIL.Image.MAX_IMAGE_PIXELS: cut '
            'it into tiles'
        )
