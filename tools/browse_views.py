"""Look at what the model sees: ``python tools/browse_views.py configs/mocov3/vit-small_custom.py --data-root DIR``.

``tools/visualize.py views`` does the same.
"""

from mocox import cli
from mocox.run.options import prepare_config


def main() -> None:
    """Writes a PNG sheet of images and their augmented views."""
    parser = cli.make_parser(__doc__)
    parser.add_argument('--num', type=int, default=12, help='how many images (default: 12)')
    parser.add_argument('--epoch', type=int, default=0, help='the epoch whose random numbers are used (default: 0)')
    parser.add_argument('--out', default='views.png', metavar='PNG', help='where the sheet goes (default: views.png)')
    args = vars(parser.parse_args())
    out, num, epoch = (args.pop(name) for name in ('out', 'num', 'epoch'))

    from mocox.visualize import views_sheet

    num_images = views_sheet(prepare_config(args.pop('config'), **args), out, num, epoch)
    print(f'{num_images} images and their views: {out}')


if __name__ == '__main__':
    cli.run_tool(main)
