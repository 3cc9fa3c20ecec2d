"""Images of many channels as pictures."""

import numpy as np
import pytest

from mocox.visualize.bands import describe_bands, show_bands


def image(channels: int, dtype=np.float32, seed: int = 0) -> np.ndarray:
    levels = np.random.default_rng(seed).uniform(20, 60, (20, 24, channels))
    return (levels * 257).round().astype(np.uint16) if dtype == np.uint16 else levels.round().astype(dtype)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(('channels', 'bands', 'shown'), [(13, (3, 2, 1), [3, 2, 1]), (13, None, [0, 1, 2]),
                                                          (2, None, [0, 1, 1]), (5, (4,), [4, 4, 4])])  # fmt: skip
def test_bands_are_stretched_and_views_alike(channels, bands, shown, dtype):
    whole, view = image(channels, dtype), image(channels, dtype, seed=1)
    pictures = show_bands([whole, view], bands)
    unit = 257 if dtype == np.uint16 else 1
    for channel, band in enumerate(shown):
        low, high = np.percentile(whole[..., band] / unit, (1, 99))
        for picture, source in zip(pictures, (whole, view), strict=True):
            expected = np.clip((source[..., band] / unit - low) / (high - low) * 255, 0, 255)
            assert picture.dtype == np.uint8
            assert np.abs(picture[..., channel] - expected).max() <= 0.51


def test_colours_and_gray_are_shown_as_they_are():
    colours, gray = image(3, np.uint8), image(1, np.uint8)
    assert np.array_equal(show_bands([colours])[0], colours)
    assert np.array_equal(show_bands([gray])[0], gray.repeat(3, axis=2))
    assert not np.array_equal(show_bands([colours], (2, 1, 0))[0], colours)


def test_a_band_without_a_range_stays_dark():
    flat = np.full((4, 4, 5), 30.0, np.float32)
    assert not show_bands([flat])[0].any()


def test_what_is_shown_is_said():
    assert describe_bands(13, (3, 2, 1)) == 'bands 3, 2, 1'
    assert describe_bands(4) == 'bands 0, 1, 2'
    assert describe_bands(3) == describe_bands(1) == ''


@pytest.mark.parametrize('bands', [(3, 2), (0, 1, 13), (-1, 0, 1)])
def test_other_bands_are_refused(bands):
    with pytest.raises(ValueError, match='name one or three of the 13 channels, counted from 0'):
        show_bands([image(13)], bands)
