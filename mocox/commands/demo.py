"""Pre-train on 1,797 handwritten digits and evaluate, in minutes, on a CPU: ``mocox demo``."""

import argparse
import sys

FASHION_MNIST = '/usr/share/datasets/fashion-mnist'


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--work-dir', default='work_dirs/demo', help='where the report goes (default: work_dirs/demo)')
    parser.add_argument('--data-root', default='data/digits', help='where the images go (default: data/digits)')
    parser.add_argument('--seed', type=int, default=0, help='seed of everything random (default: 0)')
    parser.add_argument('--epochs', type=int, help='train for so many epochs only, to try the demo itself')
    parser.add_argument('--fashion', nargs='?', const=FASHION_MNIST, metavar='DIR',
                        help='show it on 8,000 photographs of Fashion-MNIST instead, from this folder of IDX files '
                        f'(default: {FASHION_MNIST}, where the package dataset-fashion-mnist of Debian and Ubuntu '
                        'puts them)')  # fmt: skip
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Run the demo; the exit code is 0 only if it reached the accuracies that the recipe is known for."""
    from mocox import demo  # imports torch, which takes a few seconds

    sys.exit(0 if demo.run(**vars(arguments)) else 1)
