"""Masks and other annotations stored as image files beside the images."""

import re
from collections import defaultdict
from collections.abc import Iterable

# JPEGImages and SegmentationClass, leftImg8bit and gtFine, images and annotations, with what stands around the word.
_MASKS = re.compile(
    r'(?:\w*[-_ ])?(?:ped)?(?:masks?|annotations?|labels?|gt(?:fine|coarse)?|ground[-_ ]?truths?|trimaps?|'
    r'seg(?:mentations?(?:class|object)?)?|depths?)'
)
_IMAGES = re.compile(r'\w*(?:images?|imgs?(?:8bit)?|photos?|rgb|frames)')


def is_named_like_masks(name: str) -> bool:
    """True if a folder has a usual name for masks or annotations."""
    return _MASKS.fullmatch(name.lower()) is not None


def find_masks(folders: Iterable[str]) -> list[str]:
    """Folders named like masks beside a folder named like images, or among images.

    A class called ``masks`` beside other classes is not one of them.

    Args:
        folders: Every folder that holds images itself, relative and with forward slashes; '' is the outermost.
    """
    holding = set(folders)
    inside: dict[str, set[str]] = defaultdict(set)
    for folder in holding - {''}:
        parent = ''
        for name in folder.split('/'):
            inside[parent].add(name)
            parent = f'{parent}/{name}' if parent else name
    found = []
    for parent, names in inside.items():
        masks = {name for name in names if is_named_like_masks(name)}
        if parent in holding or any(_IMAGES.fullmatch(name.lower()) for name in names - masks):
            found += [f'{parent}/{name}' if parent else name for name in masks]
    return sorted(found)
