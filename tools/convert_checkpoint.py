"""Rewrite a checkpoint for another library: ``python tools/convert_checkpoint.py IN OUT --to timm``."""

from mocox.commands import main

if __name__ == '__main__':
    main('convert')
