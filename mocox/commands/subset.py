"""Write a fixed, stratified list of images: ``mocox subset DIR --fraction 0.01 --out list.txt``."""

import argparse
from pathlib import Path

from mocox.terminal import say


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', help='a folder with one folder per class')
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument('--fraction', type=float, help='of every class, rounded, at least one image: 0.01 for 1 %%')
    size.add_argument('--per-class', type=int, help='that many images of every class')
    parser.add_argument('--seed', type=int, default=0, help='another seed, another subset (default: 0)')
    parser.add_argument('--out', required=True, metavar='FILE', help='the list file: one "PATH LABEL" per line')
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Write a list file with labels for ``ImageFiles(list_file=...)``."""
    from mocox.datasets import ImageFiles
    from mocox.datasets.subset import stratified_subset

    images = ImageFiles(arguments.folder, dict(type='CenterCrop'), with_labels=True)
    labels, classes = images.labels, images.classes
    assert labels is not None and classes is not None  # with_labels
    chosen = stratified_subset(labels.tolist(), arguments.fraction, arguments.per_class, arguments.seed)
    lines = [f'{Path(images.path(i)).relative_to(images.folder).as_posix()} {labels[i]}' for i in chosen]
    if unlistable := [line for line in lines if len(line.splitlines()) > 1]:
        raise ValueError(f'a list file cannot hold the name {unlistable[0]!r}, which has a line break: rename the file')
    Path(arguments.out).parent.mkdir(parents=True, exist_ok=True)
    Path(arguments.out).write_text('\n'.join(lines) + '\n', encoding='utf-8', errors='surrogateescape')
    counts = f'{len(lines)} of {len(images)} images, {len(classes)} classes'
    say(f'{arguments.out}: {counts}, seed {arguments.seed}')
