"""Look at what the model sees: ``python tools/browse_views.py CONFIG --data-root DIR``."""

import sys

from mocox.commands import main

if __name__ == '__main__':
    main('visualize', ['views', *sys.argv[1:]])
