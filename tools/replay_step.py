"""Repeat a training step that went wrong: ``python tools/replay_step.py work_dirs/RUN/bad_steps/iter_123.pth``.

StabilityHook writes these files. Prints the loss, the first module whose output is not finite, and the gradient norm of
each layer beside the recorded one.
"""

import argparse

from mocox import cli


def main() -> None:
    """Repeats the step and prints what it gave."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('dump', help='a file of WORK_DIR/bad_steps')
    parser.add_argument('--device', default='cpu', help='where to compute (default: cpu)')
    args = parser.parse_args()

    from mocox.monitors import replay_step  # imports torch, which takes a few seconds

    print(replay_step(args.dump, args.device))


if __name__ == '__main__':
    cli.run_tool(main)
