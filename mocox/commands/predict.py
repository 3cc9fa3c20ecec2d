"""Classes of new images: ``mocox predict CHECKPOINT IMAGE_OR_FOLDER... --out table.csv``.

CHECKPOINT comes from a linear evaluation or a fine-tuning. The table has a row per image: its path, the most probable
classes and their probabilities. Images that cannot be read are named and left out.
"""

import argparse
from pathlib import Path

from mocox.terminal import say


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='of a linear evaluation or a fine-tuning, or its work dir')
    parser.add_argument('images', nargs='+', metavar='IMAGE_OR_FOLDER', help='folders with all their subfolders')
    parser.add_argument('--out', default='predictions.csv', metavar='FILE', help='default: predictions.csv')
    parser.add_argument('--top-k', type=int, default=5, metavar='K', help='classes of an image (default: 5)')
    parser.add_argument('--config', help='backbone, normalisation and crops, where the file does not say them')
    parser.add_argument('--heads', type=int, help='attention heads, where the file does not say their number')
    parser.add_argument('--prefix', help='take what is below this prefix, or in this container, of the file')
    parser.add_argument('--image-size', type=int, help='side in pixels (default: that of the training)')
    parser.add_argument('--batch-size', type=int, default=64, help='images per forward pass (default: 64)')
    parser.add_argument('--num-workers', type=int, default=0, help='processes that load images (default: 0)')
    parser.add_argument('--device', help='default: cuda if there is a GPU')
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Predicts, writes the table and prints how often each class came first."""
    from collections import Counter

    from mocox.evaluation.prediction import predict

    args = vars(arguments)
    replaced = ' (in place of the file that was there)' * Path(args['out']).exists()
    found = predict(args.pop('checkpoint'), args.pop('images'), progress=True, **args)
    say(f'{args["out"]}: {len(found.paths)} images, {len(found.classes)} classes{replaced}')
    counts = Counter(best[0][0] for best in found.top(1))
    for name, number in counts.most_common(10):
        say(f'  {number:>7,}  {name}')
