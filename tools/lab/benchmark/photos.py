"""Seeded JPEG files like photographs, so that the input pipeline can be measured anywhere, without a download."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

# Sizes and sampling of colour as they are common in ImageNet: (width, height, share), share of 4:2:0.
SIZES = ((500, 375, 0.6), (375, 500, 0.2), (500, 333, 0.1), (333, 500, 0.1))
LARGE = ((1600, 1200, 1.0),)
SHARE_420 = 0.8
QUALITY = 90
CONTRAST = 32  # standard deviation in levels; with it a 500 x 375 file has about 90 KB, ImageNet's mean is 110


def write_photos(
    folder: Path, count: int, sizes: tuple[tuple[int, int, float], ...] = SIZES, detail: float = 1.0, seed: int = 0
) -> int:
    """Write ``0000.jpg``, ``0001.jpg``, ...

    Args:
        folder: Made if it is missing.
        count: Number of files.
        sizes: Width, height and share of each size.
        detail: Photographs are drawn at this fraction of their size and enlarged, as large ones have less per pixel.
        seed: Same seed, same files.

    Returns:
        Their mean size in bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    total = 0
    shares = np.array([share for *_, share in sizes])
    for index in range(count):
        width, height, _ = sizes[rng.choice(len(sizes), p=shares / shares.sum())]
        buffer = io.BytesIO()
        subsampling = '4:2:0' if rng.random() < SHARE_420 else '4:4:4'
        image = photo(int(width * detail), int(height * detail), rng).resize((width, height), Image.Resampling.BICUBIC)
        image.save(buffer, 'JPEG', quality=QUALITY, subsampling=subsampling)
        (folder / f'{index:04}.jpg').write_bytes(buffer.getvalue())
        total += buffer.tell()
    return total // count


def photo(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """One picture: noise whose amplitude falls as 1 / frequency, as it does in photographs, and a few soft shapes."""
    luma, *chroma = (pink_noise(width, height, rng) for _ in range(3))
    weights = rng.uniform(-0.4, 0.4, (3, 2))
    pixels = np.stack([luma + w[0] * chroma[0] + w[1] * chroma[1] for w in weights], axis=-1)
    image = Image.fromarray((128 + CONTRAST * pixels).clip(0, 255).astype(np.uint8))
    for _ in range(4):
        mask = Image.new('L', (width, height))
        x, y = rng.integers(width), rng.integers(height)
        mask.paste(int(rng.integers(60, 200)), (int(x), int(y), int(x + width // 3), int(y + height // 3)))
        colour = tuple(int(level) for level in rng.integers(0, 256, 3))
        image.paste(Image.new('RGB', (width, height), colour), mask=mask.filter(ImageFilter.BoxBlur(2)))
    return image


def pink_noise(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """Noise (height, width) with mean 0, standard deviation 1 and an amplitude that falls as 1 / frequency."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) / frequency
    noise = np.fft.irfft2(spectrum, s=(height, width))
    return noise / noise.std()
