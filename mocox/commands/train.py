"""Pre-train or evaluate linearly: ``mocox train mocov3/vit-small_custom.py --data-root DIR``."""

import argparse

from mocox import cli


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = cli.make_parser(__doc__)
    cli.add_training_arguments(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Trains what the config describes."""
    from mocox.run.build import build_runner
    from mocox.run.options import prepare_config

    args = vars(arguments)
    build_runner(prepare_config(args.pop('config'), **args)).train()
