"""Repeat a training step that went wrong: ``python tools/replay_step.py work_dirs/RUN/bad_steps/iter_123.pth``."""

from mocox.commands import main

if __name__ == '__main__':
    main('replay')
