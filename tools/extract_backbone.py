"""Keep only a backbone's weights: ``python tools/extract_backbone.py CKPT OUT``."""

from mocox.commands import main

if __name__ == '__main__':
    main('extract')
