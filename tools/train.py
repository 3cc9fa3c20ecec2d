"""Pre-train or evaluate linearly: ``python tools/train.py configs/mocov3/vit-small_custom.py --data-root DIR``."""

from mocox import cli


def main() -> None:
    """Trains what the config describes."""
    parser = cli.make_parser(__doc__)
    cli.add_training_arguments(parser)
    args = parser.parse_args()
    cli.build_runner(cli.prepare_config(args.config, args)).train()


if __name__ == '__main__':
    cli.run_tool(main)
