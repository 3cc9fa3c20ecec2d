"""Look at what the model sees: ``python tools/browse_views.py configs/mocov3/vit-small_custom.py --data-root DIR``."""

from pathlib import Path

from mocox import cli


def main() -> None:
    """Writes a PNG sheet of images and their augmented views."""
    parser = cli.make_parser(__doc__)
    parser.add_argument('--num', type=int, default=12, help='how many images (default: 12)')
    parser.add_argument('--epoch', type=int, default=0, help='the epoch whose random numbers are used (default: 0)')
    parser.add_argument('--out', default='views.png', metavar='PNG', help='where the sheet goes (default: views.png)')
    args = parser.parse_args()

    from mocox.contact_sheet import augmented_views, draw_sheet

    rows = augmented_views(cli.prepare_config(args.config, args), args.num, args.epoch)
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    draw_sheet(rows).save(args.out)
    print(f'{len(rows)} images and their views: {args.out}')


if __name__ == '__main__':
    cli.run_tool(main)
