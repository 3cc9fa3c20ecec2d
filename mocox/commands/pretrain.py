"""Pre-train on a folder of images: ``mocox pretrain DIR --out WORK_DIR``.

Chooses architecture, image size, batch, epochs, workers and precision for these images and this machine, says why, and
writes the choice as a config, WORK_DIR/auto.py, which ``mocox train`` runs. What is given is taken as it is.
"""

import argparse

from mocox import cli

MODELS = ('resnet18', 'resnet50', 'vit-tiny', 'vit-small', 'vit-base')


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('data', metavar='DIR', help='the images, in subfolders too')
    parser.add_argument('--out', required=True, metavar='WORK_DIR', help='where config, log, report and weights go')
    parser.add_argument('--arch', dest='model', choices=MODELS, help='the backbone')
    parser.add_argument('--epochs', type=int, metavar='N', help='how often every image is seen')
    parser.add_argument('--batch-size', type=int, metavar='N', help='images of a step; the learning rate follows')
    parser.add_argument('--image-size', type=int, metavar='PX', help='side in pixels')
    parser.add_argument('--lr', type=float, help='in the unit of the recipe, for 256 images')
    parser.add_argument('--workers', type=int, metavar='N', help='processes that load images')
    parser.add_argument('--amp', action=argparse.BooleanOptionalAction, help='mixed precision')
    parser.add_argument('--seed', type=int, default=0, help='of everything random (default: 0)')
    parser.add_argument('--resume', action='store_true', help='go on with the run that WORK_DIR holds')
    parser.add_argument('--dry-run', dest='train', action='store_false', help='only choose and write the config')
    parser.add_argument('--processes', type=int, default=1, metavar='N', help='one per GPU; they share the batch')
    option = parser.add_argument('--cfg-options', dest='options', nargs='+', action=cli.OptionsAction)
    option.metavar, option.help = 'KEY=VALUE', 'change the config'
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Choose and train."""
    from mocox.api import pretrain

    args = vars(arguments)
    pretrain(args.pop('data'), **{name: value for name, value in args.items() if value is not None})
