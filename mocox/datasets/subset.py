"""A fixed, stratified part of a labelled set: the same fraction of every class."""

from collections.abc import Sequence

import numpy as np


def stratified_subset(
    labels: Sequence[int] | np.ndarray, fraction: float | None = None, per_class: int | None = None, seed: int = 0
) -> np.ndarray:
    """Choose images of every class.

    What is chosen of a class depends on the seed and that class only, and a larger part contains every smaller one.

    Args:
        labels: One per image, not negative.
        fraction: Of every class, rounded, at least one image; in (0, 1].
        per_class: Images of every class instead.
        seed: Not negative.

    Returns:
        Ascending indices.

    Raises:
        ValueError: Not exactly one of ``fraction`` and ``per_class``; out of range; a class with too few images.
    """
    if (fraction is None) == (per_class is None):
        raise ValueError(f'give one of fraction and per_class, got {fraction!r} and {per_class!r}')
    if fraction is not None and not 0 < fraction <= 1:
        raise ValueError(f'fraction must lie in (0, 1], got {fraction!r}')
    if per_class is not None and per_class < 1:
        raise ValueError(f'per_class must be at least 1, got {per_class!r}')
    all_labels = np.asarray(labels)
    chosen = []
    for label in np.unique(all_labels):
        (members,) = np.nonzero(all_labels == label)
        count = max(1, int(fraction * len(members) + 0.5)) if fraction is not None else per_class or 1
        if count > len(members):
            raise ValueError(f'class {label} has {len(members)} images, fewer than per_class={per_class}')
        order = np.random.default_rng(np.random.SeedSequence([seed, int(label)])).permutation(len(members))
        chosen.append(members[order[:count]])
    return np.sort(np.concatenate(chosen))


def spread(total: int, num: int) -> list[int]:
    """At most ``num`` indices below ``total``, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, total - 1, min(num, total)).astype(int)).tolist()
