"""Write the features of images to a file: ``mocox features CHECKPOINT --data DIR --out features.npz``.

The file holds ``features`` (N, C) float32 and ``paths`` (N): .npz (read it with ``numpy.load``), .parquet (a row per
image) or .csv. An extraction that was stopped goes on where it was when it is started again.
"""

import argparse
from pathlib import Path

from mocox.processes import LAUNCHERS
from mocox.terminal import say


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='of any layout that mocox inspect recognises, or a work dir')
    parser.add_argument('images', nargs='*', metavar='IMAGE_OR_FOLDER', help='folders with all their subfolders')
    parser.add_argument('--data', nargs='+', default=[], metavar='DIR', help='the same')
    parser.add_argument('--out', default='features.npz', metavar='FILE', help='.npz, .parquet or .csv')
    parser.add_argument(
        '--level',
        choices=('backbone', 'projector', 'patches'),
        default='backbone',
        help='features of an image before or after the projector, or of its patches',
    )
    parser.add_argument('--encoder', choices=('query', 'momentum'), default='query', help='which of the two encoders')
    parser.add_argument('--config', help='backbone, normalisation and crops, where the file does not say them')
    parser.add_argument('--heads', type=int, help='attention heads, where the file does not say their number')
    parser.add_argument('--image-size', type=int, help='side in pixels (default: that of pre-training)')
    parser.add_argument('--batch-size', type=int, default=64, help='images per forward pass (default: 64)')
    parser.add_argument('--num-workers', type=int, default=0, help='processes that load images (default: 0)')
    parser.add_argument('--device', help='default: cuda if there is a GPU')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='who started the processes')
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Compute the features and write them."""
    from mocox import dist
    from mocox.api import features
    from mocox.processes import group

    args = vars(arguments)
    places = [*args.pop('images'), *args.pop('data')]
    if not places:
        raise ValueError('name the images: --data DIR')
    group.start(args.pop('launcher'))
    replaced = ' (in place of the file that was there)' * Path(args['out']).exists()
    found = features(args.pop('checkpoint'), places, progress=True, **args)
    if dist.rank() == 0:
        say(f'{args["out"]}: {len(found.paths)} images, {found.features.shape[-1]} numbers each{replaced}')
