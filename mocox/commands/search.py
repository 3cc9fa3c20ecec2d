"""Find similar images: ``mocox search QUERY --folder DIR --checkpoint CKPT --out grid.png``."""

import argparse

from mocox.terminal import say


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('queries', nargs='+', metavar='QUERY', help='image files, a row of the picture for each')
    parser.add_argument('--folder', required=True, help='where to search, with all subfolders')
    parser.add_argument('--checkpoint', required=True, help='of any layout that mocox inspect recognises')
    parser.add_argument('--out', default='grid.png', help='the picture (default: grid.png)')
    parser.add_argument('--num-results', type=int, default=8, help='images per query (default: 8)')
    parser.add_argument('--encoder', choices=('query', 'momentum'), default='query', help='which of the two encoders')
    parser.add_argument(
        '--level', choices=('backbone', 'projector'), default='backbone', help='features before or after the projector'
    )
    parser.add_argument('--config', help='backbone, normalisation and crops, where the file does not say them')
    parser.add_argument('--heads', type=int, help='attention heads, where the file does not say their number')
    parser.add_argument('--image-size', type=int, help='side in pixels (default: that of pre-training)')
    parser.add_argument('--cache-dir', default='work_dirs/features', help='where features are kept')
    parser.add_argument('--batch-size', type=int, default=128, help='images per forward pass (default: 128)')
    parser.add_argument('--num-workers', type=int, default=0, help='processes that load images (default: 0)')
    parser.add_argument('--device', help='default: cuda if there is a GPU')
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Print the most similar images of a folder and write them as a picture."""
    args = vars(arguments)

    from mocox.evaluation.encoder import checkpoint_pixels
    from mocox.evaluation.search import search_images  # imports torch, which takes a few seconds
    from mocox.visualize.sheets import draw_grid, save_picture

    out, queries = args.pop('out'), args['queries']
    found = search_images(**args)
    pixels = checkpoint_pixels(args['checkpoint'], args.get('config'))
    save_picture(draw_grid(queries, found, pixels), out)
    for query, pairs in zip(queries, found):
        say(query)
        for path, similarity in pairs:
            say(f'  {similarity:.3f}  {path}')
    say(f'written: {out}')
