"""Examine a training before it is started: ``python tools/doctor.py CONFIG --data-root DIR``."""

from mocox.commands import main

if __name__ == '__main__':
    main('doctor')
