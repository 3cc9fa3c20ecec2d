"""Arguments that the command-line tools share, and errors that a person can act on."""

import argparse
import multiprocessing
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pickle import UnpicklingError
from typing import Any

from mocox.processes import LAUNCHERS
from mocox.run import errors
from mocox.terminal import escaped_output, indented

# Errors that a user can cause and fix. Anything else is a bug, and keeps its traceback.
USER_ERRORS = (ValueError, TypeError, KeyError, OSError, ImportError, SyntaxError, UnpicklingError)

MEMORY_ADVICE = (
    'the GPU ran out of memory. Add --amp; or keep the batch and compute it in parts with --cfg-options '
    'model.chunk_size=64 (the same result without BatchNorm in the backbone); or lower train_dataloader.batch_size'
)


def parse_bands(text: str) -> tuple[int, ...]:
    """Channels to show, as in ``3,2,1``."""
    return tuple(int(band) for band in text.split(','))


def run_tool(main: Callable[[], None], after_interrupt: str = '') -> None:
    """Run a tool; a user's mistake ends it with one paragraph and exit code 1 instead of a traceback.

    ``MOCOX_DEBUG=1`` keeps the traceback. Of several processes, the first of each machine explains, the others say one
    line.

    Args:
        main: What the tool does.
        after_interrupt: How to go on after Ctrl-C.
    """
    from mocox.processes import group  # imports torch, which takes seconds

    warnings.filterwarnings('ignore', 'Fail to import ``MultiScaleDeformableAttention``')  # of mmcv
    group.end_with_run()
    with escaped_output():
        _run(main, after_interrupt)


def _run(main: Callable[[], None], after_interrupt: str) -> None:
    from mocox.processes import group

    try:
        main()
        group.finish()
        group.close()
    except KeyboardInterrupt:
        sys.exit(f'\ninterrupted{after_interrupt}')
    except Exception as error:
        group.await_verdict(error)
        out_of_memory = type(error).__name__ == 'OutOfMemoryError'  # torch's, without importing torch
        worker_failure = errors.is_worker_failure(error)
        curable = out_of_memory or isinstance(error, USER_ERRORS) or worker_failure or errors.is_refusal(error)
        curable = curable or errors.is_wrong_channels(error)
        if worker_failure:
            _end_workers()
        if os.environ.get('MOCOX_DEBUG') == '1' or not curable:
            group.finish(failure=f'{type(error).__name__}: {error}'[:300])
            raise
        line_start = '\n' if sys.stderr.isatty() else ''  # a progress line may be standing there
        message = indented(MEMORY_ADVICE if out_of_memory else errors.explain(error))
        rank = int(os.environ.get('LOCAL_RANK', 0))
        if rank == 0:
            print(f'{line_start}error: {message}\n(MOCOX_DEBUG=1 shows the traceback)', file=sys.stderr, flush=True)
        else:
            print(f'{line_start}error: (rank {rank}) {message.splitlines()[0]}', file=sys.stderr, flush=True)
        group.finish(failure=message[:300])
        sys.exit(1)


def _end_workers() -> None:
    """Kill the loader's workers: one that died may hold a lock for which the others wait, ignoring SIGTERM."""
    if hasattr(signal, 'SIGCHLD'):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would raise an error for each
    for process in multiprocessing.active_children():
        process.kill()


_INNER_SPACES = re.compile(r'(?<=[^ ,(\[]) +(?=[^ ,)\]])')  # those beside a comma or just inside a bracket are layout


class OptionsAction(argparse.Action):
    """Parse ``KEY=VALUE`` arguments into a dictionary, as MMEngine does, but keep the spaces in ``/my photos``.

    Values that its parser cannot read are refused.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        from mmengine.config import DictAction

        action = DictAction(self.option_strings, self.dest, nargs='+')
        for text in values or ():
            key, equals, value = text.partition('=')
            kept = _INNER_SPACES.sub(lambda spaces: '\0' * len(spaces[0]), value)  # MMEngine drops all spaces
            try:
                action(parser, namespace, [f'{key}{equals}{kept}'], option_string)
                options = getattr(namespace, self.dest)
                options[key] = _with_spaces(options[key])
            except (AssertionError, RecursionError, ValueError, IndexError):
                parser.exit(2, indented(f'error: {option_string}: {_unreadable(text)}') + '\n')  # without the usage


def _with_spaces(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(map(_with_spaces, value))
    return value.replace('\0', ' ') if isinstance(value, str) else value


def _unreadable(text: str) -> str:
    key, equals, value = text.partition('=')
    if not equals:
        return f'{text!r} has no "=": write KEY=VALUE, and other arguments in front of the option'
    return (
        f'cannot read {value!r} as the value of {key}: close every bracket and put what has brackets in quotes, as in '
        f"'{key}=[1,2]'"
    )


def make_parser(description: str, add_help: bool = True) -> argparse.ArgumentParser:
    """A parser with the options of training and testing; without help it can be the parent of another."""
    parser = argparse.ArgumentParser(description=description, add_help=add_help)
    parser.add_argument('config', help='a config file, or mocox::FOLDER/NAME.py for one that came with the package')
    parser.add_argument('--work-dir', help='where logs and checkpoints go (default: work_dirs/CONFIG_NAME)')
    parser.add_argument('--data-root', help='the folder with the images, instead of the one in the config')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        metavar='KEY=VALUE',
        help='change the config: train_dataloader.batch_size=64 optim_wrapper.optimizer.lr=1e-4',
    )
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='who started the processes')
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """Add the options that scale a recipe; settings that must agree with a value follow it."""
    parser.add_argument('--epochs', type=int, metavar='N', help='warm-up and steps keep their place in the whole')
    parser.add_argument('--batch-size', type=int, metavar='N', help='images per process; the learning rate follows')
    parser.add_argument('--image-size', type=int, metavar='PX', help='side of the crops and of the backbone')
    parser.add_argument('--arch', metavar='NAME', help='tiny, small, base ... (ViT), resnet18 ..., or a name of timm')
    parser.add_argument('--lr', type=float, help='in the unit of the config: mostly for 256 images')
    parser.add_argument('--workers', type=int, metavar='N', help='processes that load images')


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of training only."""
    add_sizes(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CKPT',
        help='continue from this checkpoint; without one, or with "auto", from the newest good one in the work dir',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision: bfloat16, or float16 on GPUs without it')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate by batch size / base_batch_size'
    )
    parser.add_argument(
        '--pretrained', metavar='CKPT', help='initialise the backbone from this file or folder, or timm:NAME'
    )
