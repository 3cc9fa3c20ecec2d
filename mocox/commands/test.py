"""Test a checkpoint: ``mocox test configs/mocov3/vit-small_linear.py CHECKPOINT``."""

import argparse
import json
from pathlib import Path

from mocox import cli


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = cli.make_parser(__doc__)
    parser.add_argument('checkpoint', help='a checkpoint that mocox train has written')
    parser.add_argument('--out', metavar='FILE', help='also write the metrics to this JSON file')
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Print the metrics of a checkpoint that covers the whole model of the config."""
    from mocox import dist
    from mocox.run.build import build_runner, load_for_test, require_test_data
    from mocox.run.options import prepare_config

    args = vars(arguments)
    path, checkpoint, out = (args.pop(name) for name in ('config', 'checkpoint', 'out'))

    config = prepare_config(path, **args)
    require_test_data(config, path)
    runner = build_runner(config, for_training=False)
    load_for_test(runner, checkpoint)
    metrics = runner.test()
    if out and dist.rank() == 0:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        Path(out).write_text(json.dumps(metrics, indent=2) + '\n')
