"""Pre-train on 1,797 handwritten digits and evaluate, in minutes, on a CPU: ``python tools/demo.py``."""

import argparse
import sys

from mocox.cli import run_tool


def main() -> None:
    """Runs the demo; the exit code is 0 only if it reached the accuracies that the recipe is known for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--work-dir', default='work_dirs/demo', help='where the report goes (default: work_dirs/demo)')
    parser.add_argument('--data-root', default='data/digits', help='where the images go (default: data/digits)')
    parser.add_argument('--seed', type=int, default=0, help='seed of everything random (default: 0)')
    parser.add_argument('--epochs', type=int, help='train for so many epochs only, to try the demo itself')
    args = parser.parse_args()

    from mocox.demo import run  # imports torch, which takes a few seconds

    sys.exit(0 if run(args.work_dir, args.data_root, args.seed, args.epochs) else 1)


if __name__ == '__main__':
    run_tool(main)
