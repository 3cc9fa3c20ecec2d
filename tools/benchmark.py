"""Measure mocox, side by side with a peer in one process: ``python tools/benchmark.py step --against mmpretrain``."""

import argparse

from mocox import cli


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('mode', choices=('step', 'data', 'memory', 'scaling'))
    parser.add_argument('--against', choices=('mmpretrain',), help='a peer to measure side by side (default: none)')
    parser.add_argument('--config', help='default: configs/mocov3/vit-small.py')
    options = dict(nargs='+', action=cli.OptionsAction, metavar='KEY=VALUE')
    parser.add_argument('--cfg-options', **options, help='change the config')
    parser.add_argument('--batch', type=int, help='images per step, or per round (data)')
    parser.add_argument('--image-size', type=int, help='side in pixels (default: 224; without a GPU 64, data 224)')
    parser.add_argument('--device', choices=('cpu', 'cuda'), help='default: cuda if there is a GPU')
    parser.add_argument('--rounds', type=int, default=7, help='rounds that count, after one that does not (default: 7)')
    parser.add_argument('--steps', type=int, default=1, help='training steps per round (default: 1)')
    parser.add_argument('--threads', type=int, help='threads on the CPU (default: torch decides; data always uses 1)')
    parser.add_argument('--chunk-sizes', type=int, nargs='+', metavar='N', help='memory: images per backbone pass')
    parser.add_argument('--processes', type=int, help='scaling: how many against one (default: 2)')
    parser.add_argument('--step-rate', type=float, metavar='R', help='data: images per second of a step to feed')
    parser.add_argument('--json', metavar='OUT', help='write the result to this file')
    return parser


def main() -> None:
    """Measures one thing and prints it."""
    args = vars(make_parser().parse_args())

    from lab.benchmark.run import run  # imports torch, which takes a few seconds

    run(**args)


if __name__ == '__main__':
    cli.run_tool(main)
