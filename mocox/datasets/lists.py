"""List files: one path per line, with or without a label after it."""

import codecs
import os
import re
from array import array
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from mocox.datasets.packed_paths import PackedPaths

# A label is a last column of digits; 'photo 1.jpg' has none because its last word is not an integer. Spreadsheets and
# numpy write 1 as 1.0.
LABELLED_LINE = re.compile(
    r'(?P<path>.*[^\s,;])(?:[ \t]+|[ \t]*[,;][ \t]*)(?P<quote>["\']?)(?P<label>[0-9]+)(?:\.0*)?(?P=quote)[ \t]*[,;]*'
)
# A path with an ending, and behind it what should have been a label.
WITH_TEXT = re.compile(
    r'(?P<path>.*\.[A-Za-z][A-Za-z0-9]{1,4}["\']?)(?:[ \t]+|[ \t]*[,;][ \t]*)(?P<label>[^\s,;][^.]*|-?[0-9.]+)'
)
# What is left of such a line when its last label is taken off.
SEVERAL = re.compile(r'.*\.[A-Za-z][A-Za-z0-9]{1,4}["\']?(?:(?:[ \t]+|[ \t]*[,;][ \t]*)[0-9]+(?:\.0*)?)+')
_URL = re.compile(r'[A-Za-z][A-Za-z0-9+]*://')
MAX_LABEL_DIGITS = 18  # fits 64 bits
MAX_LINE = 2**16  # characters; the longest path of Linux has 4096 bytes
TRAINING_LIST, TEST_LISTS = 'train.txt', ('test.txt', 'val.txt')  # of OmniBenchmark
LOOKED_AT = 100  # images of a list, to see whether its paths lead anywhere
FORM = 'a line is a path, and behind it a label from 0 on: images/1.png 3'


def parse_list(
    list_file: str, folder: str = '.', classes: Sequence[str] | None = None
) -> tuple[PackedPaths, np.ndarray | None]:
    """Paths and labels of a list file, read line by line; no labels if no line has one.

    Labels stand behind spaces, tabs, a comma or a semicolon. Paths may be quoted, begin with ``./``, be absolute where
    they lead into ``folder``, and have the backslashes of Windows. Bytes that are not UTF-8 stay as they are, since
    paths are bytes. A name with a line break cannot be listed.

    Args:
        list_file: The file.
        folder: Folder that its paths are relative to.
        classes: Names in the order of their labels, where labels are names.

    Returns:
        Paths relative to ``folder`` where they lie in it, and labels (N,) int64 or None.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No path in it, no text file, labels on some of the lines only, several of an image, or labels
            that are neither numbers from 0 on nor names of ``classes``.
    """
    if not os.path.isfile(list_file):
        raise FileNotFoundError(f'the list file {list_file!r} does not exist: correct list_file')
    labels = array('q')
    paths = PackedPaths(_read_entries(list_file, os.path.join(os.path.abspath(folder), ''), labels, classes or ()))
    if not len(paths):
        raise ValueError(f'the list file {list_file!r} names no images: it needs one path per line')
    if not labels:
        return paths, None
    numbers = np.frombuffer(labels, np.int64)
    _refuse_contradictions(list_file, paths, numbers)
    return paths, numbers


def _refuse_contradictions(list_file: str, paths: PackedPaths, labels: np.ndarray) -> None:
    """Refuse an image on several lines with different labels."""
    hashes = np.fromiter(map(hash, paths), np.int64, len(paths))
    order = np.lexsort((labels, hashes))
    hashes, sorted_labels = hashes[order], labels[order]
    for row in np.flatnonzero((hashes[1:] == hashes[:-1]) & (sorted_labels[1:] != sorted_labels[:-1])):
        first, second = order[row], order[row + 1]
        if paths[first] == paths[second]:
            raise ValueError(
                f'{list_file!r} names {os.fsdecode(paths[first])!r} twice, with the labels {labels[first]} and '
                f'{labels[second]}: leave one of the lines. Images with several labels are evaluated in the layout of '
                'VOC 2007'
            )


def _read_entries(list_file: str, folder: str, labels: array, classes: Sequence[str]) -> Iterator[bytes]:
    """Yield the paths and append to the labels."""
    first_line, labelled = '', None
    for line in _read_lines(list_file):
        match = LABELLED_LINE.fullmatch(line) or _named(line, classes)
        path = _as_written_here(_unquoted(match['path'] if match else line), folder)
        if labelled is None:
            first_line, labelled = line, bool(match)
            _refuse_other_forms(list_file, folder, line, path, match is not None, classes)
        if bool(match) != labelled:
            _refuse_text(list_file, line, match is not None, classes)
            raise ValueError(
                f'{(first_line if match else line)!r} in {list_file!r} has no label, other lines have one: '
                'put an integer at the end of each line, or of none, and remove a header'
            )
        if match:
            if SEVERAL.fullmatch(path) and not os.path.exists(os.path.join(folder, path)):
                raise ValueError(
                    f'{line!r} in {list_file!r} has several labels, and an image has one here: leave one on each line, '
                    'or none for a pre-training, which needs no labels. Images with several labels are evaluated in '
                    'the layout of VOC 2007'
                )
            labels.append(_number(match['label'], classes, list_file, path))
        yield os.fsencode(_below(path, folder))


def _named(line: str, classes: Sequence[str]) -> re.Match | None:
    """Parse a line whose label is the name of a class."""
    match = WITH_TEXT.fullmatch(line) if classes else None
    return match if match and _unquoted(match['label']) in classes else None


def _number(label: str, classes: Sequence[str], list_file: str, path: str) -> int:
    if not label.isdigit():
        return [*classes].index(_unquoted(label))
    if len(label) > MAX_LABEL_DIGITS:
        raise ValueError(f'{list_file!r}: the label of {path!r} has {len(label)} digits')
    return int(label)


def _as_written_here(path: str, folder: str) -> str:
    """Replace the backslashes of Windows by slashes; one that belongs to a name stays."""
    is_name = '\\' not in path or os.path.lexists(os.path.join(folder, path))
    return path if is_name else path.replace('\\', '/')


def _refuse_other_forms(
    list_file: str, folder: str, line: str, path: str, labelled: bool, classes: Sequence[str]
) -> None:
    """Refuse a first line whose path does not exist for its label: text, negative or in front."""
    if os.path.exists(os.path.join(folder, path)):
        return
    if line[0] in '[{':
        raise ValueError(f'{list_file!r} begins with {line[:40]!r}, as JSON does: write a text file; {FORM}')
    if _URL.match(path):
        raise ValueError(f'{line!r} in {list_file!r} is an address: download the images, and list the files')
    if not labelled and '.' not in line and re.search(r'[\t ,;]', line):
        raise ValueError(
            f'{line!r} in {list_file!r} has no label, and there is no such file: write paths with their endings, '
            f'and remove a header (pandas: to_csv(..., index=False, header=False)); {FORM}'
        )
    label, _, rest = line.replace(',', ' ').replace(';', ' ').replace('\t', ' ').partition(' ')
    rest = _as_written_here(_unquoted(rest.strip()), folder)
    behind = LABELLED_LINE.fullmatch(rest) or WITH_TEXT.fullmatch(rest)
    if label.isdigit() and behind and os.path.exists(os.path.join(folder, _unquoted(behind['path']))):
        raise ValueError(
            f'{line!r} in {list_file!r}: a number comes before the path, like the index of a table: leave '
            f'that column out (pandas: to_csv(..., index=False, header=False)); {FORM}'
        )
    _refuse_text(list_file, line, labelled, classes)
    if label.isdigit() and os.path.exists(os.path.join(folder, rest)):
        raise ValueError(f'{line!r} in {list_file!r}: the label comes before the path; {FORM}')


def _refuse_text(list_file: str, line: str, labelled: bool, classes: Sequence[str]) -> None:
    """Refuse a label that is text, negative or a fraction."""
    text = None if labelled else WITH_TEXT.fullmatch(line)
    if text and classes:
        raise ValueError(
            f'{line!r} in {list_file!r}: the label {text["label"]!r} is not in classes={[*classes][:5]}: correct one '
            'of the two'
        )
    if text:
        raise ValueError(
            f'{line!r} in {list_file!r}: the label {text["label"]!r} is not a whole number from 0 on. '
            'Number the classes in the order of their names, or set classes=[...] of the dataset to the names in that '
            f'order, or leave the labels out if there are class folders; {FORM}'
        )


def _unquoted(path: str) -> str:
    is_quoted = len(path) > 2 and path[0] == path[-1] and path[0] in '"\''
    return path[1:-1].strip() or path if is_quoted else path


def _below(path: str, folder: str) -> str:
    """Make a path relative to the folder, normalised, if it lies in it."""
    if os.path.isabs(path) and os.path.normpath(path).startswith(folder):
        return os.path.normpath(path)[len(folder) :]
    while path.startswith('./') and len(path) > 2:
        path = path[2:].lstrip('/') or path[2:]
    return path


def _read_lines(list_file: str) -> Iterator[str]:
    """The lines of a text file without white space around them, empty ones left out."""
    with open(list_file, 'rb') as file:
        wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # as PowerShell writes it
    encoding, errors = ('utf-16', 'replace') if wide else ('utf-8-sig', 'surrogateescape')
    with open(list_file, encoding=encoding, errors=errors) as file:
        while line := file.readline(MAX_LINE):
            if len(line) == MAX_LINE or '\0' in line:
                raise ValueError(f'{list_file!r} is not a list of paths, one per line: it holds {line[:40]!r}...')
            if line := line.strip():
                yield line


def find_lists(folder: str) -> tuple[str, tuple[str, ...]] | None:
    """Find lists of labelled training and test images, with paths from their own folder.

    Args:
        folder: Is looked at.

    Returns:
        Names of the training list and of the test lists, the preferred one first; None where they are not there, or
        none of the first images is (the paths are those of another folder), or they have no labels.
    """
    tests = tuple(name for name in TEST_LISTS if os.path.isfile(os.path.join(folder, name)))
    training = os.path.join(folder, TRAINING_LIST)
    if not tests or not os.path.isfile(training):
        return None
    with open(training, encoding='utf-8', errors='replace') as lines:
        rows = [LABELLED_LINE.fullmatch(line.strip()) for line in islice(lines, LOOKED_AT)]
    if any(row and os.path.isfile(os.path.join(folder, row['path'])) for row in rows):
        return TRAINING_LIST, tests
    return None
