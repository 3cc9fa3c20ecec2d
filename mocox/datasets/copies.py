"""Test images that are among the training images, byte for byte."""

import hashlib
from collections import defaultdict
from typing import Any

from mocox.datasets.encoded_images import EncodedImages
from mocox.datasets.subset import spread

MAX_TESTS = 1000  # images to test on that are looked for, evenly spread
MAX_READ = 20_000  # images to learn from that are read, because they have the size of one of those


def describe_copies(train: Any, test: Any) -> str:
    """Describe how many test images are in training too, with examples; '' if none are, or none are files.

    The sizes of all files are compared first; only files of one size are read.

    Args:
        train: The images to learn from.
        test: The images to test on.
    """
    if not (isinstance(train, EncodedImages) and isinstance(test, EncodedImages)):
        return ''
    rows = spread(len(test), MAX_TESTS)
    by_size: dict[str | None, list[int]] = defaultdict(list)
    for row in rows:
        if size := _size(test, row):
            by_size[size].append(row)
    alike = [row for row in range(len(train)) if _size(train, row) in by_size]
    alike = [alike[i] for i in spread(len(alike), MAX_READ)] if alike else []
    sizes = {_size(train, row) for row in alike}
    learned = {digest: row for row in alike if (digest := _digest(train, row))}
    wanted = [row for size in sizes for row in by_size[size]]
    pairs = sorted((row, learned[digest]) for row in wanted if (digest := _digest(test, row)) in learned)
    if not pairs:
        return ''
    examples = ', '.join(f'{test.path(row)!r} = {train.path(other)!r}' for row, other in pairs[:3])
    return f'{len(pairs):,} of {len(rows):,} test images looked at are also training images, byte for byte: {examples}'


def _size(images: EncodedImages, row: int) -> str | None:
    """Version of a file without its time; None where it is unknown."""
    version = images.version(row).split()
    return version[0] if len(version) == 2 else None


def _digest(images: EncodedImages, row: int) -> bytes | None:
    try:
        return hashlib.sha256(images.read_bytes(row)).digest()
    except Exception:  # whatever a store raises: the data set says so when it comes to the file
        return None
