"""Data sets of encoded image files, some of which may be unreadable."""

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from mmengine.logging import print_log

from mocox.datasets.base import Crops
from mocox.datasets.census import take_census
from mocox.datasets.frames import count_all_frames
from mocox.datasets.packed_paths import PackedPaths
from mocox.datasets.pixels import Pixels
from mocox.datasets.positives import Groups, Positives
from mocox.datasets.replacement import ReplacedImages
from mocox.datasets.survey import current_survey

NUM_PROBES = 32  # images tried at the start, spread over the data set
MAX_FILE_BYTES = 2**30  # of one encoded image
POSITIVES = 1  # sets the random numbers that choose a positive apart from those of the crops


class EncodedImages(ReplacedImages):
    """Images stored as encoded files; a subclass knows where (:meth:`read_bytes`).

    An image that cannot be read (corrupt, truncated, vanished, too large) does not end a run: another one takes its
    place, always the same one for a seed, and it is counted and named in the log. ``index`` of the item stays the one
    asked for; ``label`` is that of the image shown. What makes a list of the images, such as an evaluation, leaves it
    out instead (:meth:`shown`, :meth:`keep`).

    Args:
        crops: Config of the transform that cuts the views.
        with_labels: Whether an item has a ``label``.
        classes: Class names in the order of their labels.
        seed: Seed of crops, draws and replacements; None takes that of the run.
        max_replacements: Images tried in place of an unreadable one before giving up.
        positives: Which images are positives of each other: the arguments of :class:`~mocox.datasets.Positives`.
        frames: ``'first'`` of a DICOM of several, or ``'all'``: each is an image. To count them, every file is read
            once at the start.
        pixels: ``channels``, ``value_range`` and ``depth`` of :class:`~mocox.datasets.Pixels`.
    """

    root = ''  # what a list of positives is relative to
    folder = ''  # what paths are relative to

    def __init__(
        self,
        crops: dict | Crops,
        with_labels: bool = False,
        classes: list[str] | None = None,
        seed: int | None = None,
        max_replacements: int = 100,
        positives: Mapping[str, Any] | None = None,
        frames: str = 'first',
        **pixels: Any,
    ) -> None:
        super().__init__(crops, with_labels, classes, seed, **pixels)
        if frames not in ('first', 'all'):
            raise ValueError(f"frames must be 'first' or 'all', got {frames!r}")
        self.frames, self.max_replacements = frames, max_replacements
        self._frames: np.ndarray | None = None
        self.positives = None if positives is None else Positives(**positives)
        if positives is not None and self.crops.num_views < 2:
            raise ValueError(f'positives={dict(positives)!r} need crops of at least two views: leave them out here')

    def path(self, index: int) -> str:
        """The location of one image, for messages."""
        return os.fsdecode(self._paths[index])

    @property
    def groups(self) -> Groups:
        """The groups of positives; without ``positives`` each image is its own group."""
        return self._groups or Groups(np.full(len(self), -1))

    def frame(self, index: int) -> int:
        """Number of the frame in its file."""
        return 0 if self._frames is None else int(self._frames[index])

    def set_images(self, paths: PackedPaths, labels: np.ndarray | None, source: str) -> None:
        """Register the images that a subclass has found, and read one.

        Args:
            paths: One per image.
            labels: (N,) int64, or None.
            source: Where they all come from, for messages.

        Raises:
            ValueError: None of the images tried can be read.
        """
        self._paths, self.labels, self.source = paths, labels, source
        self._groups: Groups | None = None
        self.forget_status(len(paths))
        frame_notes = self._list_frames() if self.frames == 'all' else []
        if self.positives:
            self._groups = self.positives.group(self._paths, self.root, self.folder)
        census = take_census(self, NUM_PROBES)
        self.asked, self.pixels = self.pixels, census.fit()
        self.file_notes, self.suggested = frame_notes + census.notes(), census.suggest()
        if not (current_survey() and census.num_fitting):
            self.check_readable(NUM_PROBES)
        for level, note in self.describe_files():
            print_log(note, logger='current', level=level)

    def _list_frames(self) -> list[tuple[int, str]]:
        """Make an image of each frame, and describe that, with a level of :mod:`logging`."""
        counts = count_all_frames(self)
        rows = np.repeat(np.arange(len(counts)), counts)
        self.keep(rows)
        self._frames = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        several = counts[counts > 1]
        text = f"frames='all': {int(several.sum()):,} frames of {len(several):,} files, {len(rows):,} images in all"
        return [(logging.INFO, text)]

    def describe_files(self) -> list[tuple[int, str]]:
        """Describe unused content and the number ranges of the files, each with a level of :mod:`logging`."""
        if self.positives and self._groups:
            how = f'the second view is of another image of the group with probability {self.positives.prob:g}'
            self.file_notes.append((logging.INFO, f'positives by {self.positives}: {self._groups}; {how}'))
        return self.file_notes

    def __len__(self) -> int:
        return len(self._paths)

    @cached_property
    def checksum(self) -> int:
        """Checksum of the names of all images in order, relative to their folder."""
        return self._paths.checksum()

    def use_measured(self, settings: Mapping[str, Any] | None) -> None:
        """Adopt the measurements of another data set, or of an earlier run, where the config sets none.

        Args:
            settings: Of :meth:`Pixels.settings`.
        """
        known = Pixels.from_settings(settings)
        if self.asked.measures_range and known.auto_range is not None:
            nodata = known.nodata if self.asked.nodata is None else self.asked.nodata
            self.pixels = replace(self.pixels, auto_range=known.auto_range, nodata=nodata)
        if self.asked.measures_depth:
            self.pixels = replace(self.pixels, depth=None if known.bits == 8 else known.bits)

    @property
    def pairing(self) -> str:
        """Checksum of the images for the second view: of groups and probability; '' without positives."""
        return f'{self.positives.prob:g} {self._groups.checksum()}' if self.positives and self._groups else ''

    def keep(self, rows: np.ndarray) -> None:
        """See :meth:`ViewsDataset.keep`."""
        self._paths = PackedPaths(self._paths[row] for row in rows.tolist())
        self.labels = None if self.labels is None else self.labels[rows]
        self.keep_status(rows)
        self._groups = self._groups and self._groups.keep(rows)
        self._frames = None if self._frames is None else self._frames[rows]
        self.__dict__.pop('checksum', None)

    def version(self, index: int) -> str:
        """A version that changes with the content of one image: size and time of its file."""
        try:
            status = os.stat(self.path(index))
        except OSError:  # gone, or a broken link
            return 'none'
        frame = '' if self._frames is None else f' {self._frames[index]}'
        return f'{status.st_size} {status.st_mtime_ns}{frame}'

    def load(self, index: int) -> tuple[np.ndarray, Any]:
        """Read one image, or the first readable one of its replacements, and the label that belongs to it."""
        image, shown = self._load(index)
        return image, self._label(shown)

    def load_positive(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray | None, Any]:
        """See :meth:`ViewsDataset.load_positive`; another image of the group replaces an unreadable positive."""
        image, shown = self._load(index)
        return image, self._read_other(epoch, index, shown), self._label(shown)

    def _read_other(self, epoch: int, index: int, shown: int) -> np.ndarray | None:
        if not (self.positives and self._groups and self.positives.prob):
            return None
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, epoch, index, POSITIVES]))
        if rng.random() >= self.positives.prob:
            return None
        images = (self._read(other, []) for other in self._groups.others(shown, rng))
        return next((image for image in images if image is not None), None)

    def _label(self, index: int) -> Any:
        if self.labels is None:
            return None
        return int(self.labels[index]) if self.labels.ndim == 1 else self.labels[index]
