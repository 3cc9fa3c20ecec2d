"""Find similar images: ``python tools/search_images.py QUERY --folder DIR --checkpoint CKPT --out grid.png``."""

from mocox.commands import main

if __name__ == '__main__':
    main('search')
