"""Write report.html, one page that says whether runs learn: ``python tools/report.py WORK_DIR...``."""

import argparse
from pathlib import Path

from mocox import cli


def main() -> None:
    """Reads the logs of one or more work dirs and draws them over each other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='of tools/train.py, of running trainings too')
    parser.add_argument('--out', metavar='HTML', help='default: report.html in the work dir; of several, here')
    parser.add_argument('--names', nargs='+', help='what to call the runs (default: their folders)')
    parser.add_argument('--data-root', help='where the images are now, if not where the config says')
    parser.add_argument('--num-images', type=int, default=256, help='for neighbours and maps (default: 256)')
    parser.add_argument('--maps', nargs='+', choices=('pca', 'tsne', 'umap'), default=['pca', 'tsne'])
    parser.add_argument('--no-pictures', action='store_true', help='curves and tables only; needs no images')
    args = parser.parse_args()
    if args.names and len(args.names) != len(args.work_dirs):
        parser.error(f'--names: {len(args.names)} names for {len(args.work_dirs)} work dirs')

    # These import torch, which takes a few seconds.
    from mocox.report.page import write_report
    from mocox.report.pictures import Pictures, from_checkpoint
    from mocox.report.runs import name_runs, read_run
    from mocox.report.verdict import judge

    names = args.names or name_runs(args.work_dirs)
    runs = [read_run(folder, name) for folder, name in zip(args.work_dirs, names)]
    drawn = Pictures()
    if not args.no_pictures:
        settings = (args.num_images, args.data_root, tuple(args.maps))
        drawn = from_checkpoint(runs[0].config, runs[0].checkpoint, *settings)
    out = args.out or (str(Path(args.work_dirs[0], 'report.html')) if len(runs) == 1 else 'report.html')
    size = write_report(runs, out, drawn, running=any(run.goes_on for run in runs))
    for run in runs:
        verdict = judge(run)
        print(f'{run.name}: {verdict.state}. {verdict.message}')
    for note in drawn.notes:
        print(f'note: {note}')
    print(f'written: {out} ({size / 1e6:.1f} MB)')


if __name__ == '__main__':
    cli.run_tool(main)
