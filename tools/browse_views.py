"""Look at what the model sees: ``python tools/browse_views.py configs/mocov3/vit-small_custom.py --data-root DIR``.

``tools/visualize.py views`` does the same.
"""

from mocox import cli


def main() -> None:
    """Writes a PNG sheet of images and their augmented views."""
    parser = cli.make_parser(__doc__)
    parser.add_argument('--num', type=int, default=12, help='how many images (default: 12)')
    parser.add_argument('--epoch', type=int, default=0, help='the epoch whose random numbers are used (default: 0)')
    parser.add_argument('--out', default='views.png', metavar='PNG', help='where the sheet goes (default: views.png)')
    args = parser.parse_args()

    from mocox.visualize import views_sheet

    num_images = views_sheet(cli.prepare_config(args.config, args), args.out, args.num, args.epoch)
    print(f'{num_images} images and their views: {args.out}')


if __name__ == '__main__':
    cli.run_tool(main)
