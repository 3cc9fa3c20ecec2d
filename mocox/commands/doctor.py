"""Examine a training before it is started: ``mocox doctor CONFIG --data-root DIR``.

The exit code is 0 if nothing stands in the way (warnings may remain) and 1 with a problem or a wrong argument.
"""

import argparse
import sys

from mocox import cli
from mocox.terminal import say


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = cli.make_parser(__doc__)
    cli.add_sizes(parser)
    parser.add_argument('--gpus', type=int, default=1, help='processes of the run, one per GPU (default: 1)')
    parser.add_argument('--num-images', type=int, default=300, help='images to read (default: 300)')
    parser.add_argument('--seconds', type=float, default=5.0, help='to measure for, 0 for not at all (default: 5)')
    parser.add_argument('--json', metavar='OUT', help='write everything here for scripts')
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Print what was found, and write it as JSON if asked to."""
    args = vars(arguments)
    out, gpus, num_images, seconds = (args.pop(name) for name in ('json', 'gpus', 'num_images', 'seconds'))

    from mocox.doctor import examine, write_failure
    from mocox.run.options import prepare_config

    try:
        diagnosis = examine(prepare_config(args.pop('config'), **args), gpus, num_images, seconds)
    except cli.USER_ERRORS as error:
        if out:
            write_failure(out, error)
        raise
    print(diagnosis)
    if out:
        diagnosis.write_json(out)
        say(f'written: {out}')
    sys.exit(diagnosis.exit_code)
