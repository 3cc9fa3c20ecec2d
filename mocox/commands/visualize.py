"""Pictures of what a model sees and has learned: ``mocox visualize {views,schedule,attention,...}``."""

import argparse

from mocox import cli
from mocox.terminal import say

BANDS = "channels to show, counted from 0: 3,2,1 (default: the config's report, or the first three)"


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(prog='mocox visualize', dest='command', required=True, metavar='COMMAND')
    views = commands.add_parser(
        'views', help='images and their augmented views', parents=[cli.make_parser('', add_help=False)]
    )
    views.add_argument('--num', type=int, default=12, help='how many images (default: 12)')
    views.add_argument('--epoch', type=int, default=0, help='the epoch whose random numbers are used (default: 0)')
    schedule = commands.add_parser(
        'schedule', help='learning rate and momentum of every step', parents=[cli.make_parser('', add_help=False)]
    )
    schedule.add_argument('--num-images', type=int, metavar='N', help='by default the data set is opened and counted')
    schedule.add_argument('--processes', type=int, default=1, metavar='N', help='one per GPU (default: 1)')
    attention = commands.add_parser('attention', help='where the heads of a vision transformer look')
    attention.add_argument('--images', nargs='+', required=True, metavar='FILE_OR_FOLDER')
    attention.add_argument('--num', type=int, default=8, help='images taken from a folder (default: 8)')
    near = commands.add_parser('neighbours', help='images and those with the most similar features')
    near.add_argument('--queries', nargs='+', metavar='FILE', help='default: images of the folder')
    near.add_argument('--num', type=int, default=6, help='queries taken from the folder (default: 6)')
    near.add_argument('--num-results', type=int, default=8, help='neighbours of each (default: 8)')
    near.add_argument(
        '--level', choices=('backbone', 'projector'), default='backbone', help='features before or after the projector'
    )
    near.add_argument('--cache-dir', default='work_dirs/features', help='where features are kept')
    embedding = commands.add_parser('embedding', help='a map of the features, coloured by class folder')
    embedding.add_argument('--method', choices=('pca', 'tsne', 'umap'), default='pca', help='umap needs umap-learn')
    embedding.add_argument('--num', type=int, default=1000, help='images, evenly spread (default: 1000)')
    embedding.add_argument('--seed', type=int, default=0, help='of t-SNE and UMAP (default: 0)')
    for command in (near, embedding):
        command.add_argument('--folder', required=True, help='images, in subfolders too')
        command.add_argument('--batch-size', type=int, default=64, help='images per forward pass (default: 64)')
        command.add_argument('--num-workers', type=int, default=0, help='processes that load images (default: 0)')
    for command in (attention, near, embedding):
        command.add_argument('checkpoint', help='of any layout that mocox inspect recognises')
        command.add_argument(
            '--encoder', choices=('query', 'momentum'), default='query', help='which of the two encoders'
        )
        command.add_argument('--config', help='backbone, normalisation and crops, where the file does not say them')
        command.add_argument('--heads', type=int, help='attention heads, where the file does not say their number')
        command.add_argument('--image-size', type=int, help='side in pixels (default: that of pre-training)')
        command.add_argument('--device', help='default: cuda if there is a GPU')
    for name, command in commands.choices.items():
        if name not in ('embedding', 'schedule'):
            command.add_argument('--bands', type=cli.parse_bands, metavar='R,G,B', help=BANDS)
        command.add_argument('--out', default=f'{name}.png', metavar='PNG', help=f'(default: {name}.png)')
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Write one PNG file."""
    args = vars(arguments)
    out = args['out']
    say(f'{_draw(args.pop("command"), args)}: {out}')


def _draw(command: str, args: dict) -> str:
    from mocox import visualize

    if command == 'views':
        from mocox.run.options import prepare_config

        settings = {name: args.pop(name) for name in ('out', 'num', 'epoch', 'bands')}
        config = prepare_config(args.pop('config'), **args)
        num, shown = visualize.views_sheet(config, **settings)
        return f'{num} images and their views' + (f' ({shown} as red, green and blue, stretched)' if shown else '')
    if command == 'schedule':
        from mocox.run.options import prepare_config

        wanted = {name: args.pop(name) for name in ('out', 'num_images', 'processes')}
        return visualize.schedule_chart(prepare_config(args.pop('config'), **args), **wanted).describe()
    if command == 'attention':
        return '{} images, {} heads'.format(*visualize.attention_sheet(**args))
    if command == 'neighbours':
        return f'{len(visualize.neighbours_sheet(**args))} images and their neighbours'
    return '{} images of {} classes'.format(*visualize.embedding_map(**args))
