"""Write the features of images to a file: ``python tools/extract_features.py CHECKPOINT --data DIR --out FILE``."""

from mocox.commands import main

if __name__ == '__main__':
    main('features')
