"""Test a checkpoint: ``python tools/test.py configs/mocov3/vit-small_linear.py CHECKPOINT``."""

from mocox.commands import main

if __name__ == '__main__':
    main('test')
