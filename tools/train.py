"""Pre-train or evaluate linearly: ``python tools/train.py configs/mocov3/vit-small_custom.py --data-root DIR``."""

from mocox.commands import main

if __name__ == '__main__':
    main('train')
