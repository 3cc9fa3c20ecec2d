"""Measure and test all that is open for a GPU, in stages that can be interrupted: ``python tools/gpu_day.py OUT``."""

import argparse
import sys

from mocox import cli


def make_parser() -> argparse.ArgumentParser:
    """Of this command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', metavar='OUT', help='gets STAGE.jsonl and report.md; what is done there is not repeated')
    parser.add_argument('--list', action='store_true', help='say what the stages are, and what fits into ten minutes')
    parser.add_argument('--stage', nargs='+', metavar='NAME', help='only these stages (default: all)')
    parser.add_argument('--minutes', type=float, metavar='M', help='begin nothing that would end after so many')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cuda', help='default: cuda')
    parser.add_argument('--tiny', action='store_true', help='a rehearsal: every stage at sizes that mean nothing')
    parser.add_argument('--data', metavar='DIR', help='with the files of Fashion-MNIST or CIFAR-10')
    parser.add_argument('--cores', type=int, metavar='N', help='to load images with (default: all)')
    return parser


def main() -> None:
    """Do what is not done in OUT yet, and write OUT/report.md."""
    args = vars(make_parser().parse_args())

    from lab.gpu_day.run import run

    list_only = args.pop('list')
    if not run(list_only=list_only, **args):
        sys.exit(1)


if __name__ == '__main__':
    cli.run_tool(main)
