"""Measure what a checkpoint has learned: ``python tools/evaluate.py CHECKPOINT --data-root DIR``."""

from mocox.commands import main

if __name__ == '__main__':
    main('evaluate')
