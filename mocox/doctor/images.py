"""Examination of the images: number, size, kind, unreadable files, duplicates."""

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mocox.datasets import Pixels, ViewsDataset
from mocox.datasets.encoded_images import EncodedImages
from mocox.datasets.subset import spread
from mocox.datasets.survey import Survey, see
from mocox.doctor.findings import NOTE, PROBLEM, WARNING, Finding

MANY_UNREADABLE = 0.05


@dataclass
class Sample:
    """Statistics of some images of a data set.

    Args:
        total: Images of the data set.
        looked_at: How many of them were sampled.
        sides: Shorter side of each, in pixels.
        sizes: (width, height) of each.
        modes: How many files of each of Pillow's modes.
        gray: How many without colour, whatever their mode.
        unreadable: Path and reason.
        twice: Groups of files with the same bytes.
        bytes_per_image: Mean size of a file; None for images in memory.
        mean: Mean of each channel, in levels of 0 to 255.
        std: Likewise.
        numbers: Smallest and largest in the files of more than 8 bits.
        notes: Notes of the data set about its files, each with a level of :mod:`logging`.
    """

    total: int
    looked_at: int
    sizes: list[tuple[int, int]] = field(default_factory=list)
    modes: dict[str, int] = field(default_factory=dict)
    gray: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    twice: list[list[str]] = field(default_factory=list)
    bytes_per_image: float | None = None
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    numbers: tuple[float, float] | None = None
    notes: list[tuple[int, str]] = field(default_factory=list)

    @property
    def sides(self) -> list[int]:
        return [min(size) for size in self.sizes]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        sides = sorted(self.sides) or [0]
        return dict(
            total=self.total, looked_at=self.looked_at, modes=self.modes, gray=self.gray,
            shorter_side=dict(min=sides[0], median=sides[len(sides) // 2], max=sides[-1]),
            unreadable=[dict(path=path, reason=reason) for path, reason in self.unreadable],
            twice=self.twice, bytes_per_image=self.bytes_per_image,
            mean=self.mean, std=self.std, numbers=self.numbers, notes=[note for _, note in self.notes],
        )  # fmt: skip


def look_at(dataset: ViewsDataset, num: int, survey: Survey | None = None) -> Sample:
    """Read some images, evenly spread, each once.

    Args:
        dataset: A data set of image files, or of images in memory.
        num: Number of images to sample, at most.
        survey: Images already read, used instead.
    """
    rows = spread(len(dataset), num if survey is None else survey.num)
    sample = Sample(len(dataset), len(rows))
    modes: Counter = Counter()
    same, lengths, levels = defaultdict(list), [], []
    for row in rows:
        if not isinstance(dataset, EncodedImages):
            pixels = dataset.load(row)[0]
            height, width = pixels.shape[:2]
        else:
            path = dataset.path(row)
            seen = see(dataset, row) if survey is None else survey.look(dataset)[row]
            try:
                if seen.raw is None:
                    raise ValueError(seen.error)
                pixels = dataset.pixels(seen.raw)
            except ValueError as error:
                sample.unreadable.append((path, str(error)))
                continue
            modes[seen.mode] += 1
            if not seen.is_ordinary:
                _measure_numbers(sample, seen.raw.bands)
            same[seen.digest, dataset.frame(row)].append(path)
            lengths.append(seen.num_bytes)
            height, width = seen.size
        sample.sizes.append((width, height))
        levels.append(_moments(pixels))
        sample.gray += bool((pixels == pixels[:, :, :1]).all())
    sample.modes = dict(modes.most_common())
    sample.twice = [paths for paths in same.values() if len(paths) > 1]
    sample.bytes_per_image = float(np.mean(lengths)) if lengths else None
    if levels:
        first, second = np.mean(levels, axis=0)
        sample.mean, sample.std = first.tolist(), np.sqrt((second - first**2).clip(0)).tolist()
    sample.notes = list(getattr(dataset, 'file_notes', []))
    return sample


def check_pixels(sample: Sample, pixels: Pixels, mean: Sequence[float]) -> list[Finding]:
    """Report the range of the numbers in the files, and the lines of a config that fit it.

    Args:
        sample: Of :func:`look_at`.
        pixels: How the files were read.
        mean: Mean in the config.
    """
    found, dark = [], False
    for level, note in sample.notes:
        title, _, cure = note.partition('; set ')
        dark |= level >= logging.WARNING and 'value_range' in cure
        reason = 'What is dark in every image can hardly be learned from.' if cure else 'Nothing is left out silently.'
        if 'channels=' in cure:
            reason = 'Another image takes the place of each, and where they are many the run ends.'
        if 'data_prefix' in cure:
            reason = 'Views of masks are easily told from views of images, and folders of masks are not classes.'
        found.append(Finding(
            WARNING if level >= logging.WARNING else NOTE, 'file_contents', title, reason,
            cure or 'none needed if that is intended; see docs/data.md',
        ))  # fmt: skip
    if sample.mean and (pixels.settings() or len(mean) != len(sample.mean)):
        lines = ' '.join(
            f'data_preprocessor.{name}="[{",".join(f"{value:.1f}" for value in values)}]"'
            for name, values in (('mean', sample.mean), ('std', [max(value, 1.0) for value in sample.std]))
        )
        if dark:
            lines = 'set value_range first, then look again: both change with it'
        found.append(Finding(
            NOTE, 'normalisation', f'mean and standard deviation of {len(sample.mean)} channels, as measured',
            'Channels whose statistics differ from those of the config weigh more or less than they should.', lines,
        ))  # fmt: skip
    return found


def _moments(pixels: np.ndarray) -> np.ndarray:
    """Mean and mean square of each channel (2, C), in levels of 0 to 255."""
    levels = pixels.reshape(-1, pixels.shape[2]).astype(np.float64) / (257 if pixels.dtype == np.uint16 else 1)
    return np.stack([levels.mean(axis=0), (levels**2).mean(axis=0)])


def _measure_numbers(sample: Sample, bands: np.ndarray) -> None:
    finite = bands[np.isfinite(bands)] if bands.dtype.kind == 'f' else bands
    if bands.dtype == np.uint8 or not finite.size:
        return
    low, high = sample.numbers or (np.inf, -np.inf)
    sample.numbers = min(low, float(finite.min())), max(high, float(finite.max()))


def check_images(sample: Sample, crop_px: int | None, jitters: bool) -> list[Finding]:
    """Findings of a sample.

    Args:
        sample: Of :func:`look_at`.
        crop_px: Shorter side of the views.
        jitters: Whether colours are jittered.
    """
    found = []
    if sample.unreadable:
        share = len(sample.unreadable) / sample.looked_at
        path, reason = sample.unreadable[0]
        found.append(Finding(
            PROBLEM if share > MANY_UNREADABLE else WARNING, 'unreadable_images',
            f'{len(sample.unreadable)} of {sample.looked_at} files cannot be read, first {path}: {reason}',
            'A run replaces each by another image, so the data are fewer than they seem.',
            'restore or delete them',
        ))  # fmt: skip
    if sample.twice:
        copies = sum(len(paths) - 1 for paths in sample.twice)
        found.append(Finding(
            WARNING if copies > 0.05 * sample.looked_at else NOTE, 'duplicates',
            f'{copies} of {sample.looked_at} files are copies, such as {" = ".join(sample.twice[0][:2])}',
            'A copy in the batch or queue is a negative that cannot be told from the positive.', 'keep one of each',
        ))  # fmt: skip
    median = sorted(sample.sides)[len(sample.sides) // 2] if sample.sizes else 0
    if crop_px and median and median < crop_px / 2:
        found.append(Finding(
            WARNING, 'small_images', f'views of {crop_px} px from images of {median} px (median of the shorter side)',
            'They are magnified: time and memory for pixels that hold nothing.',
            'smaller train_dataloader.dataset.crops.size and backbone.img_size, see configs/mocov3/vit-tiny_cifar10.py',
        ))  # fmt: skip
    if jitters and sample.sizes and sample.gray > 0.9 * len(sample.sizes):
        found.append(Finding(
            NOTE, 'gray_images', f'{sample.gray} of {len(sample.sizes)} images have no colour',
            'Jitter of saturation and hue does nothing to them: the views differ less than the recipe means.',
            'stronger brightness and contrast, blur or noise; look at mocox visualize views',
        ))  # fmt: skip
    return found
