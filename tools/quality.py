"""Train contestants on the same images and judge them alike: ``python tools/quality.py --data-root DIR --out OUT``."""

import argparse

from mocox import cli


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data-root', required=True, help='folder of IDX files, packed or not')
    parser.add_argument('--out', required=True, help='folder for one JSON per contestant and seed')
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--contestants', nargs='+', metavar='NAME', help='default: all; "list" prints them')
    what.add_argument('--sweep', nargs='+', metavar='SETTING', help='other values of these for the recipe of --config')
    what.add_argument('--maps', metavar='CHECKPOINT', help='judge a trained ResNet by several of its maps instead')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='default: 0')
    parser.add_argument('--config', default='configs/mocov2/resnet18_fashion.py', help='gives backbone and views')
    parser.add_argument('--own', action='store_true', help="each peer's views of its authors, our best recipe")
    parser.add_argument('--train', type=int, default=8000, help='images to pre-train on (default: 8000)')
    parser.add_argument('--test', action='store_true', help='judge on the test images, not on held-out training images')
    parser.add_argument('--held-out', type=int, default=2000, help='how many of those (default: 2000)')
    parser.add_argument('--first-held-out', type=int, default=50_000, help='number of the first (default: 50000)')
    parser.add_argument('--batch', type=int, default=128, help='images of a step (default: 128)')
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument('--epochs', type=int, default=8, help='length of a run (default: 8)')
    budget.add_argument('--seconds', type=float, help='length of a run in CPU seconds of its steps')
    parser.add_argument('--points', type=int, default=2, help='how often a run is judged (default: 2)')
    parser.add_argument('--no-finetuning', action='store_true', help='leave out training on 1 %% of the labels')
    options = dict(nargs='+', action=cli.OptionsAction, metavar='KEY=VALUE')
    parser.add_argument('--cfg-options', **options, help='change the recipe of --config and those of mocox v2 and v3')
    return parser


def main() -> None:
    """Run what is missing in OUT, one run after the other, and print the table."""
    args = vars(make_parser().parse_args())

    from lab.quality.contest import compete  # imports torch, which takes a few seconds

    compete(**args)


if __name__ == '__main__':
    cli.run_tool(main)
