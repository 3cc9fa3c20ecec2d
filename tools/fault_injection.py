"""Kill real trainings at random moments and show that nothing is lost: ``python tools/fault_injection.py --kills 100``.

Small recipes on a CPU, with one process and with two. Takes about a second per kill.
"""

import argparse

from mocox.cli import run_tool


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kills', type=int, default=100, help='how many faults to inject (default: 100)')
    parser.add_argument('--seed', type=int, default=0, help='of the kinds and moments (default: 0)')
    parser.add_argument('--work-dir', default='work_dirs/fault_injection', help='emptied; gets fault_injection.json')
    return parser


def main() -> None:
    """Print a table of the faults; the exit code is 0 only if every training ended as the undisturbed one."""
    args = make_parser().parse_args()

    from lab import fault_injection  # imports torch, which takes a few seconds

    fault_injection.main(args.kills, args.seed, args.work_dir)


if __name__ == '__main__':
    run_tool(main)
