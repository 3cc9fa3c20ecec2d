"""Test a checkpoint: ``python tools/test.py configs/mocov3/vit-small_linear.py CHECKPOINT``."""

import json
from pathlib import Path

from mocox import cli, dist


def main() -> None:
    """Prints the metrics of a checkpoint that covers the whole model of the config."""
    parser = cli.make_parser(__doc__)
    parser.add_argument('checkpoint', help='a checkpoint written by tools/train.py')
    parser.add_argument('--out', metavar='FILE', help='also write the metrics to this JSON file')
    args = parser.parse_args()

    config = cli.prepare_config(args.config, args)
    cli.require_test_data(config, args.config)
    runner = cli.build_runner(config)
    cli.load_for_test(runner, args.checkpoint)
    metrics = runner.test()
    if args.out and dist.rank() == 0:
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        Path(args.out).write_text(json.dumps(metrics, indent=2) + '\n')


if __name__ == '__main__':
    cli.run_tool(main)
