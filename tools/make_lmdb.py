"""Copy the images of a folder into one LMDB: ``python tools/make_lmdb.py DIR OUT.lmdb``."""

import argparse

from mocox.cli import run_tool


def main() -> None:
    """Writes what ``LMDBImages(data_root=OUT)`` reads: the same data set as the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', help='searched with all its subfolders; class folders stay class folders')
    parser.add_argument('out', help='the LMDB, which must not exist')
    args = parser.parse_args()

    from mocox.datasets import write_lmdb

    print(f'{args.out}: {write_lmdb(args.folder, args.out)} images')


if __name__ == '__main__':
    run_tool(main)
