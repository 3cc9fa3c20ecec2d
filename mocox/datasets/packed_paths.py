"""Millions of paths packed into two arrays instead of Python objects."""

import zlib
from array import array
from collections.abc import Iterable, Iterator

import numpy as np


class PackedPaths:
    """A read-only sequence of byte strings: all of them end to end, and where each one ends.

    Forked workers share both arrays for good, whereas a list of Python strings is copied page by page as its
    reference counts change. A path costs its length and 8 bytes, whatever the length of the others.

    Args:
        paths: Read once; no list of them is made.
    """

    def __init__(self, paths: Iterable[bytes] = ()) -> None:
        data, ends = bytearray(), array('q', [0])
        for path in paths:
            data += path
            ends.append(len(data))
        self._data = np.frombuffer(data or b'\0', np.uint8)
        self._ends = np.frombuffer(ends, np.int64)  # (N + 1,), the first one is 0

    @classmethod
    def from_arrays(cls, data: np.ndarray, ends: np.ndarray) -> 'PackedPaths':
        """The inverse of :meth:`to_arrays`.

        Raises:
            ValueError: The arrays do not fit each other.
        """
        if data.dtype != np.uint8 or ends.dtype != np.int64 or data.ndim != 1 or ends.ndim != 1 or not len(ends):
            raise ValueError(f'paths need uint8 data and int64 ends, got {data.dtype} and {ends.dtype}')
        if ends[0] != 0 or ends[-1] > len(data) or (np.diff(ends) < 0).any():
            raise ValueError('the ends of the paths do not ascend within the data')
        paths = cls()
        paths._data, paths._ends = data, ends
        return paths

    def to_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """All bytes (uint8), and where each path ends, after a first 0 (int64)."""
        return self._data, self._ends

    def checksum(self) -> int:
        """A CRC-32 of all paths and where each one ends."""
        return zlib.crc32(self._ends.data, zlib.crc32(self._data.data))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> bytes:
        if not 0 <= index < len(self):
            raise IndexError(f'there is no path {index} among {len(self)}')
        return self._data[self._ends[index] : self._ends[index + 1]].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        return (self[index] for index in range(len(self)))
