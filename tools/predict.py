"""Classes of new images: ``python tools/predict.py CHECKPOINT IMAGE_OR_FOLDER... --out table.csv``."""

from mocox.commands import main

if __name__ == '__main__':
    main('predict')
