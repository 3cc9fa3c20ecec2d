"""Measure what a checkpoint has learned: ``mocox evaluate CHECKPOINT --data-root DIR``.

Knows the backbone from the file, extracts features once, runs the protocols, prints one table. DIR holds train and
val or test with a folder per class, class folders alone (k-NN only), lists of labelled images (OmniBenchmark: all of
its realms and their average), VOC 2007, CIFAR-10, CIFAR-100 or IDX files.
"""

import argparse

from mocox import cli
from mocox.processes import LAUNCHERS


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='of any layout that mocox inspect recognises, or a work dir')
    parser.add_argument('--data-root', required=True, help='the folder with the labelled images')
    parser.add_argument('--protocols', nargs='+', metavar='NAME', help='of: knn linear logreg fewshot svm lowshot')
    parser.add_argument('--encoder', choices=('query', 'momentum'), default='query', help='which of the two encoders')
    parser.add_argument('--prefix', help='take what is below this prefix, or in this container, of the file')
    parser.add_argument('--config', help='backbone, normalisation and crops, where the file does not say them')
    parser.add_argument('--heads', type=int, help='attention heads, where the file does not say their number')
    parser.add_argument('--test-split', metavar='NAME', help='the folder to test on (default: val, else test)')
    parser.add_argument('--work-dir', help='where results go (default: work_dirs/evaluate/FOLDER/NAME)')
    parser.add_argument('--cache-dir', default='work_dirs/features', help='where features are kept')
    parser.add_argument('--image-size', type=int, help='side in pixels (default: that of pre-training)')
    parser.add_argument('--batch-size', type=int, default=128, help='images per forward pass (default: 128)')
    parser.add_argument('--num-workers', type=int, default=0, help='processes that load images (default: 0)')
    parser.add_argument('--seed', type=int, default=0, help='of the probes and the few-shot draws (default: 0)')
    parser.add_argument('--device', help='default: cuda if there is a GPU')
    parser.add_argument('--options', nargs='+', action=cli.OptionsAction, metavar='PROTOCOL.SETTING=VALUE',
                        help='knn.ks=[1,5] linear.epochs=30 fewshot.num_draws=20 svm.num_jobs=8 ...')  # fmt: skip
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='who started the processes')
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Run the protocols; the report goes to the work dir."""
    args = vars(arguments)

    from mocox.evaluation.realms import evaluate  # imports torch, which takes a few seconds
    from mocox.processes import group

    group.start(args.pop('launcher'))
    evaluate(**args)
