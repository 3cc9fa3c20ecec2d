"""Whether a label means the same in two places: it is the position of a folder among the sorted class folders."""

from collections.abc import Sequence


def class_difference(
    ours: Sequence[str] | None, theirs: Sequence[str] | None, names: tuple[str, str] = ('training', 'test')
) -> str:
    """How two lists of class names differ, in words; empty if they are the same or one of them is not known.

    Args:
        ours: In the order of their labels.
        theirs: In the order of their labels.
        names: What the images of each are for.
    """
    if not ours or not theirs or list(ours) == list(theirs):
        return ''
    missing = {*ours} - {*theirs}, {*theirs} - {*ours}
    only = [f'only for {name}: {sorted(classes)[:5]}' for name, classes in zip(names, missing, strict=True) if classes]
    return '; '.join(only) or 'in another order'
