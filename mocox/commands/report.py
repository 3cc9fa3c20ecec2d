"""Write report.html, one page that says whether runs learn: ``mocox report WORK_DIR...``."""

import argparse
from pathlib import Path

from mocox import cli
from mocox.terminal import say


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='of trainings, of running ones too')
    parser.add_argument('--out', metavar='HTML', help='default: report.html in the work dir; of several, here')
    parser.add_argument('--names', nargs='+', help='what to call the runs (default: their folders)')
    parser.add_argument('--data-root', help='where the images are now, if not where the config says')
    parser.add_argument('--num-images', type=int, default=256, help='for neighbours and maps (default: 256)')
    parser.add_argument(
        '--maps',
        nargs='+',
        choices=('pca', 'tsne', 'umap'),
        default=['pca', 'tsne'],
        help='of the features (default: pca tsne)',
    )
    parser.add_argument(
        '--bands', type=cli.parse_bands, metavar='R,G,B', help='channels to show (default: of the config)'
    )
    parser.add_argument('--no-pictures', action='store_true', help='curves and tables only; needs no images')
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Read the logs of one or more work dirs and draw them over each other."""
    if arguments.names and len(arguments.names) != len(arguments.work_dirs):
        raise ValueError(f'--names: {len(arguments.names)} names for {len(arguments.work_dirs)} work dirs')

    # These import torch, which takes a few seconds.
    from mocox.report.page import write_report
    from mocox.report.pictures import Pictures, from_checkpoint
    from mocox.report.runs import name_runs, read_run
    from mocox.report.verdict import judge

    names = arguments.names or name_runs(arguments.work_dirs)
    runs = [read_run(folder, name) for folder, name in zip(arguments.work_dirs, names)]
    drawn = Pictures()
    if not arguments.no_pictures:
        settings = (arguments.num_images, arguments.data_root, tuple(arguments.maps), arguments.bands)
        drawn = from_checkpoint(runs[0].config, runs[0].checkpoint, *settings)
    out = arguments.out or (str(Path(arguments.work_dirs[0], 'report.html')) if len(runs) == 1 else 'report.html')
    size = write_report(runs, out, drawn, running=any(run.goes_on for run in runs))
    for run in runs:
        verdict = judge(run)
        say(f'{run.name}: {verdict.state}. {verdict.message}')
    say(*(f'note: {note}' for note in drawn.notes), f'written: {out} ({size / 1e6:.1f} MB)')
