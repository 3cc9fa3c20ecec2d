"""Pre-train or evaluate linearly: ``python tools/train.py configs/mocov3/vit-small_custom.py --data-root DIR``."""

from mocox import cli
from mocox.run.build import build_runner
from mocox.run.options import prepare_config


def main() -> None:
    """Trains what the config describes."""
    parser = cli.make_parser(__doc__)
    cli.add_training_arguments(parser)
    args = vars(parser.parse_args())
    build_runner(prepare_config(args.pop('config'), **args)).train()


if __name__ == '__main__':
    cli.run_tool(main)
