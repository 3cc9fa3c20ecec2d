"""Write a fixed, stratified list of images: ``python tools/make_subset.py DIR --fraction 0.01 --out list.txt``."""

from mocox.commands import main

if __name__ == '__main__':
    main('subset')
