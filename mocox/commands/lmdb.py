"""Copy the images of a folder into one LMDB: ``mocox lmdb DIR OUT.lmdb``."""

import argparse

from mocox.terminal import say


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', help='searched with all its subfolders; class folders stay class folders')
    parser.add_argument('out', help='the LMDB, which must not exist')
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Write what ``LMDBImages(data_root=OUT)`` reads: the same data set as the folder."""
    from mocox.datasets import write_lmdb

    say(f'{arguments.out}: {write_lmdb(arguments.folder, arguments.out)} images')
