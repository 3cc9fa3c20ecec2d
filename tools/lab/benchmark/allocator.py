"""What CUDA's caching allocator would take from a card for tensors that are made and freed in a given order.

Written from torch's rules. Sizes are multiples of 512 bytes. What is not above 1 MiB comes from segments of 2 MiB, what
is larger from segments of 20 MiB, and from 10 MiB on from a segment of its own, a multiple of 2 MiB. The smallest free
block that fits is taken, and cut where more than 1 MiB would be left (of a small segment, anything). Free neighbours
become one block, and nothing is given back. With ``expandable_segments`` there is one small and one large segment, and
each grows at its end.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import NamedTuple

MIB = 2**20
ROUND = 512
LARGEST_SMALL, SMALL_SEGMENT, LARGE_SEGMENT = MIB, 2 * MIB, 20 * MIB
SMALLEST_OWN, OWN_ROUND = 10 * MIB, 2 * MIB
APART = 2**60  # addresses from one segment to the next


class Event(NamedTuple):
    """A tensor is made, of so many bytes, or freed (None)."""

    key: int
    num_bytes: int | None


class Pool:
    """The segments of small or of large tensors: free blocks by size, all of them by where they start and end.

    Args:
        is_large: Which.
        expandable: One segment that grows.
    """

    def __init__(self, is_large: bool, expandable: bool) -> None:
        self.is_large, self.expandable = is_large, expandable
        self.reserved = self._segments = self._end = 0
        self._free: list[tuple[int, int]] = []  # size, start
        self._starts: dict[int, int] = {}  # start to size, of free blocks
        self._ends: dict[int, int] = {}  # end to start

    def take(self, size: int) -> tuple[int, int]:
        """Start and size of a block."""
        at = bisect_left(self._free, (size, 0))
        start, there = self._remove(self._free[at][1]) if at < len(self._free) else self._grow(size)
        rest = there - size
        if rest > LARGEST_SMALL if self.is_large and not self.expandable else rest:
            self._add(start + size, rest)
            there = size
        return start, there

    def release(self, start: int, size: int) -> None:
        """Join it with its neighbours that are free."""
        if start in self._ends:
            before, there = self._remove(self._ends[start])
            start, size = before, there + size
        if start + size in self._starts:
            size += self._remove(start + size)[1]
        self._add(start, size)

    def _grow(self, size: int) -> tuple[int, int]:
        page = LARGE_SEGMENT if self.is_large else SMALL_SEGMENT
        if not self.expandable:
            self._segments += 1
            new = multiple(size, OWN_ROUND) if size >= SMALLEST_OWN else page
            self.reserved += new
            return self._segments * APART, new
        start, there = self._remove(self._ends[self._end]) if self._end in self._ends else (self._end, 0)
        new = multiple(size - there, page)
        self.reserved += new
        self._end += new
        return start, there + new

    def _add(self, start: int, size: int) -> None:
        insort(self._free, (size, start))
        self._starts[start], self._ends[start + size] = size, start

    def _remove(self, start: int) -> tuple[int, int]:
        size = self._starts.pop(start)
        del self._ends[start + size]
        del self._free[bisect_left(self._free, (size, start))]
        return start, size


class Allocator:
    """Bytes that tensors take: ``allocated``, and its ``peak``.

    Args:
        expandable: As with ``PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True``.
    """

    def __init__(self, expandable: bool = False) -> None:
        self.allocated = self.peak = 0
        self._pools = [Pool(is_large, expandable) for is_large in (False, True)]
        self._taken: dict[int, tuple[Pool, int, int]] = {}

    @property
    def reserved(self) -> int:
        """Bytes taken from the card, which never get fewer."""
        return sum(pool.reserved for pool in self._pools)

    def replay(self, events: Iterable[Event]) -> None:
        """Make and free tensors in this order."""
        for key, num_bytes in events:
            if num_bytes is not None:
                size = multiple(num_bytes, ROUND)
                pool = self._pools[size > LARGEST_SMALL]
                start, size = pool.take(size) if size else (0, 0)
                self._taken[key] = pool, start, size
                self.allocated += size
                self.peak = max(self.peak, self.allocated)
                continue
            pool, start, size = self._taken.pop(key)
            self.allocated -= size
            if size:
                pool.release(start, size)


def multiple(size: int, of: int) -> int:
    """The smallest multiple of ``of`` that is not below ``size``."""
    return -(-size // of) * of
