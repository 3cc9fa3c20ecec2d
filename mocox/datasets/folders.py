"""Images below a folder: the files that count, in their order, and what is left out."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from mmengine.logging import print_log

from mocox.datasets.unsupported import cures_by_ending

# Endings that only an extra reads: its library, and its name.
EXTRAS = {
    **dict.fromkeys(('.dcm', '.dicom'), ('pydicom', 'dicom')),
    **dict.fromkeys(('.heic', '.heif', '.hif'), ('pillow_heif', 'heif')),
    **dict.fromkeys(('.jls', '.jxl'), ('imagecodecs', 'scientific')),
}
EXTENSIONS = (
    *('.apng', '.avif', '.bmp', '.btf', '.dib', '.gif', '.j2c', '.j2k', '.jfif', '.jhc', '.jp2', '.jpe', '.jpeg'),
    *(
        '.jpf',
        '.jpg',
        '.jph',
        '.jpx',
        '.mpo',
        '.npy',
        '.npz',
        '.pam',
        '.pbm',
        '.pfm',
        '.pgm',
        '.png',
        '.pnm',
        '.ppm',
        '.tf8',
        '.tga',
        '.tif',
    ),
    *('.tiff', '.webp', *EXTRAS),
)
# Where NAS and desktop systems keep thumbnails, deleted files and the like; small letters.
BINS = (
    '@eadir',
    '#recycle',
    '@recycle',
    '#snapshot',
    '$recycle.bin',
    'lost+found',
    '__macosx',
    'system volume information',
)
FIX = 'pass --data-root DIR, or set data_root (and data_prefix) of the dataset in the config'


def describe_left_out(left_out: Mapping[str, int]) -> str:
    """Describe the files of a folder that are not read: '' or a clause that ends with '; '."""
    words = [f'{name} {number:,}' for name, number in sorted(left_out.items(), key=lambda pair: -pair[1])]
    needed = {EXTRAS[name] for name in left_out if name in EXTRAS}
    cures = [f'to read those of {library}: pip install "mocox[{extra}]"; ' for library, extra in sorted(needed)]
    cures += [f'{cure}; ' for cure in cures_by_ending(left_out)]
    return ''.join([f'left out by ending: {", ".join(words)}; ' if words else '', *cures])


def scan(folder: str, left_out: Counter | None = None) -> Iterator[str]:
    """Relative paths of the images below a folder, with forward slashes, in the order of ``sorted``.

    One folder's names are in memory at a time. Linked folders are followed, but not in circles.

    Args:
        folder: Searched with all its subfolders, those of thumbnails and deleted files apart.
        left_out: Gets the numbers of the other files by their ending, and of the folders not searched by their name.
    """
    left_out = Counter() if left_out is None else left_out
    absent = {ending for ending, (library, _) in EXTRAS.items() if find_spec(library) is None}
    endings = frozenset(EXTENSIONS) - absent
    stack: list[tuple[str, tuple[str, ...], Iterator[str]]] = [
        ('', (), iter(_names_in(folder, endings, left_out)))
    ]  # sorting 'name/' as such puts 'a.jpg' before 'a/b.jpg'
    while stack:
        prefix, crossed, names = stack[-1]
        name = next(names, None)
        if name is None:
            stack.pop()
        elif not name.endswith('/'):
            yield prefix + name
        else:
            path = os.path.join(folder, prefix + name[:-1])
            if os.path.islink(path):
                crossed = (*crossed, os.path.realpath(os.path.dirname(path)))
                target = os.path.realpath(path)
                if any(os.path.commonpath([target, parent]) == target for parent in crossed):
                    continue  # it leads back to a folder that the walk came through
            stack.append((prefix + name, crossed, iter(_names_in(path, endings, left_out, required=False))))


def _names_in(folder: str, endings: frozenset[str], left_out: Counter, required: bool = True) -> list[str]:
    """Sorted names of the images and, with a slash at the end, of the folders in a folder."""
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                ending = os.path.splitext(entry.name)[1].lower()
                if entry.name[0] == '.':
                    if _is_folder(entry):
                        left_out[f'{entry.name}/'] += 1
                    elif ending in endings:
                        left_out['hidden images'] += 1
                    continue
                if _is_folder(entry):
                    if entry.name.lower() in BINS:
                        left_out[f'{entry.name}/'] += 1
                    else:
                        names.append(f'{entry.name}/')
                elif ending in endings:
                    names.append(entry.name)
                else:
                    left_out[ending or 'none'] += 1
    except OSError as error:
        if required:
            raise type(error)(f'the image folder {folder!r} cannot be read ({error.strerror}): {FIX}') from None
        print_log(f'{folder!r} is left out: {error.strerror}', logger='current', level=logging.WARNING)
    return sorted(names)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
