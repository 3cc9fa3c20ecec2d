"""Check that the groups of positives leave true negatives, and a test set without images of the training."""

import os
from collections.abc import Iterator
from itertools import islice

from mocox.datasets import EncodedImages, ImageFiles, Positives, ViewsDataset
from mocox.datasets.folders import scan
from mocox.datasets.splits import find_splits
from mocox.doctor.findings import WARNING, Finding

MAX_SCANNED = 1_000_000  # images beside those of the training


def check_positives(dataset: ViewsDataset, num_keys: int) -> list[Finding]:
    """Findings on the groups of a data set; none without ``positives``.

    Args:
        dataset: The training set.
        num_keys: Keys that a query is compared with.
    """
    if not isinstance(dataset, EncodedImages) or dataset.positives is None or not dataset.positives.prob:
        return []
    found, expected = [], dataset.groups.share() * (num_keys - 1)
    if expected >= 1:
        found.append(Finding(
            WARNING, 'positives_as_negatives',
            f'of {num_keys:,} keys about {expected:,.1f} are of the group of the query, as negatives',
            'The second view pulls a group together, and the rest of the batch or the queue pushes it apart.',
            'finer groups, a smaller queue (model.queue_len) or a smaller batch',
        ))  # fmt: skip
    return found + (list(_split_groups(dataset, dataset.positives)) if isinstance(dataset, ImageFiles) else [])


def _split_groups(dataset: ImageFiles, positives: Positives) -> Iterator[Finding]:
    """A group with images to train on and others to test on."""
    above, name = os.path.split(dataset.folder)
    splits = find_splits(above)
    if splits is None or splits.train != name:
        return
    ours = set(positives.keys(dataset._paths, dataset.root, dataset.folder)) - {None}
    for test in splits.tests:
        folder = os.path.join(above, test)
        paths = (os.fsencode(path) for path in islice(scan(folder), MAX_SCANNED))
        shared = ours.intersection(positives.keys(paths, dataset.root, folder))
        if shared:
            example = min(shared, key=str)
            words = ', '.join(map(str, example)) if isinstance(example, tuple) else str(example)
            yield Finding(
                WARNING, 'split_groups',
                f'{len(shared):,} of {len(ours):,} groups also have images in {test!r}, such as {words!r}',
                'Test images are near copies of training images, so scores on them are too high.',
                'move whole groups to one of the two folders',
            )  # fmt: skip
