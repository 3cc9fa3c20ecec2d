"""Display images of any number of channels by three chosen bands."""

from collections.abc import Sequence

import numpy as np

from mocox.datasets.pixels import to_rgb8

PERCENTILES = (1, 99)  # of each band of an image, which become black and white


def show_bands(row: Sequence[np.ndarray], bands: Sequence[int] | None = None) -> list[np.ndarray]:
    """An image and what was made of it as pictures, (H, W, 3) uint8.

    Gray and colour are shown as they are. Of more channels three become red, green and blue; as such images are often
    dark, each band is stretched, the views in the same way as the image, so that what was done to them is seen.

    Args:
        row: The image and its views, (H, W, C) of any type that a data set gives.
        bands: One or three channels, counted from 0; by default the first three.

    Raises:
        ValueError: ``bands`` names others.
    """
    channels = row[0].shape[2]
    if not is_chosen(channels, bands):
        return [to_rgb8(image) for image in row]
    chosen = _choose(channels, bands)
    if len(chosen) not in (1, 3) or not all(0 <= band < channels for band in chosen):
        raise ValueError(f'bands={chosen}: name one or three of the {channels} channels, counted from 0')
    levels = [to_levels(image[:, :, chosen]) for image in row]
    low, high = np.percentile(levels[0], PERCENTILES, axis=(0, 1))
    scale = 255 / np.where(high > low, high - low, 255)
    return [to_rgb8((image - low) * scale) for image in levels]


def is_chosen(channels: int, bands: Sequence[int] | None) -> bool:
    """True if some of the bands are chosen, rather than all shown."""
    return bands is not None or channels not in (1, 3)


def describe_bands(channels: int, bands: Sequence[int] | None = None) -> str:
    """Describe the bands that are shown; empty where all are."""
    if not is_chosen(channels, bands):
        return ''
    return f'bands {", ".join(map(str, _choose(channels, bands)))}'


def _choose(channels: int, bands: Sequence[int] | None) -> list[int]:
    return list(bands or (min(i, channels - 1) for i in range(3)))


def to_levels(image: np.ndarray) -> np.ndarray:
    """0 to 255, floating point."""
    return image / 257 if image.dtype == np.uint16 else image.astype(np.float32)
