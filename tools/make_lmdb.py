"""Copy the images of a folder into one LMDB: ``python tools/make_lmdb.py DIR OUT.lmdb``."""

from mocox.commands import main

if __name__ == '__main__':
    main('lmdb')
