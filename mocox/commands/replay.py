"""Repeat a training step that went wrong: ``mocox replay work_dirs/RUN/bad_steps/iter_123.pth``.

StabilityHook writes these files. Prints the loss, the first module whose output is not finite, and the gradient norm of
each layer beside the recorded one.
"""

import argparse


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('dump', help='a file of WORK_DIR/bad_steps')
    parser.add_argument('--device', default='cpu', help='where to compute (default: cpu)')
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Repeat the step and print the result."""
    from mocox.monitors import replay_step  # imports torch, which takes a few seconds

    print(replay_step(arguments.dump, arguments.device))
