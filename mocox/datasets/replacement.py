"""An unreadable image is replaced by another one, always the same for a seed; it is counted and named in the log."""

import logging
from collections.abc import Iterator

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor

from mocox.datasets.base import ViewsDataset
from mocox.datasets.extras import MissingExtraError

MAX_PROBES = 1000  # images tried in all before a data set counts as unreadable
MAX_NAMED = 100  # unreadable images that one run names in the log; all are counted
UNTRIED, READABLE, UNREADABLE, MISSING = range(4)  # the last: a library is missing


class ReplacedImages(ViewsDataset):
    """A data set of which some images may be unreadable; ``seed`` chooses their replacements as well."""

    fix = 'correct the config'  # what a user can do about a wrong place
    source = ''  # where the images come from, for messages
    max_replacements = 100  # images tried in place of an unreadable one before giving up

    def read_bytes(self, index: int) -> bytes:
        """The content of one image file.

        Raises:
            Exception: It cannot be read.
        """
        raise NotImplementedError

    def path(self, index: int) -> str:
        """The location of one image, for messages."""
        raise NotImplementedError

    def frame(self, index: int) -> int:
        """Number of the frame in its file."""
        raise NotImplementedError

    def forget_status(self, num_images: int) -> None:
        """Begin with images none of which has been tried."""
        self._status = torch.zeros(num_images, dtype=torch.uint8).share_memory_()  # written by workers too

    def keep_status(self, rows: np.ndarray) -> None:
        """Keep what is known of these images, in this order."""
        self._status = self._status[torch.from_numpy(rows)].share_memory_()

    @property
    def num_tried(self) -> int:
        """Number of images tried so far by this process and its workers."""
        return int((self._status != UNTRIED).sum())

    @property
    def num_unreadable(self) -> int:
        """Images found unreadable so far, by this process and its workers."""
        return int((self._status >= UNREADABLE).sum())

    @property
    def num_missing(self) -> int:
        """Number of those that only need a library that is not installed."""
        return int((self._status == MISSING).sum())

    def unreadable(self) -> list[int]:
        """Indices of the images found unreadable so far, by this process and its workers."""
        return (self._status >= UNREADABLE).nonzero()[:, 0].tolist()

    def can_read(self, index: int) -> bool:
        """Read one image, or log why it cannot be read."""
        return self._read(index, []) is not None

    def shown(self, indices: Tensor) -> Tensor:
        """See :meth:`ViewsDataset.shown`."""
        found = indices.clone()
        for row in (self._status[indices] >= UNREADABLE).nonzero()[:, 0].tolist():
            candidates = self._candidates(int(indices[row]))
            found[row] = next((image for image in candidates if self._status[image] < UNREADABLE), -1)
        return found

    def _load(self, index: int) -> tuple[np.ndarray, int]:
        """An image and its index."""
        reasons: list[str] = []
        for candidate in self._candidates(index):
            image = self._read(candidate, reasons)
            if image is not None:
                return image, candidate
        raise ValueError(
            f'no readable image among {len(reasons)} tried in {self.source}, first {reasons[0]}: '
            f'check the files, or {self.fix}'
        )

    def _candidates(self, index: int) -> Iterator[int]:
        """Yield the index itself, then its replacements, which depend on it and the seed only."""
        yield index
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, index]))
        for _ in range(self.max_replacements):
            yield int(rng.integers(len(self)))

    def _read(self, index: int, reasons: list[str]) -> np.ndarray | None:
        """Decode one image; on failure note the reason and log the image if no process has done so."""
        try:
            image = self.decode(self.read_bytes(index), self.frame(index))
        except Exception as error:  # Pillow's plugins raise anything from SyntaxError to struct.error
            # repr: a name may hold line breaks, or bytes that no log file can encode
            reasons.append(f'{self.path(index)!r}: {_one_line(error)}')
            state = MISSING if isinstance(error, MissingExtraError) else UNREADABLE
        else:
            if self._status[index] == UNTRIED:
                self._status[index] = READABLE
            return image
        if self._status[index] < UNREADABLE:
            known = state == MISSING and self.num_missing  # one line says what to install
            self._status[index] = state
            if not known:
                self._log_unreadable(reasons[-1])
        return None

    def _log_unreadable(self, reason: str) -> None:
        count = self.num_unreadable
        if count <= MAX_NAMED:
            last = '; further ones are counted, not named' if count == MAX_NAMED else ''
            print_log(
                f'unreadable image ({count} of {len(self)} so far{last}): {reason}',
                logger='current',
                level=logging.WARNING,
            )

    def check_readable(self, num_probes: int) -> None:
        """Fail at the start, rather than in the first batch, if no image is readable, without reading all of them.

        Args:
            num_probes: Images tried first, spread over the data set; then up to ``MAX_PROBES``.

        Raises:
            ValueError: None of these can be read.
        """
        reasons: list[str] = []
        probes = [np.linspace(0, len(self) - 1, num).astype(int) for num in (num_probes, MAX_PROBES)]
        for index in dict.fromkeys(np.concatenate(probes).tolist()):
            if self._read(index, reasons) is not None:
                return
        raise ValueError(
            f'no readable image in {self.source}: {len(reasons)} of {len(self)} files tried, first {reasons[0]}; '
            f'{self.fix}'
        )


def _one_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).encode('unicode_escape').decode()[:500]
