"""A folder in the layout of PASCAL VOC."""

from pathlib import Path

import numpy as np
from PIL import Image

OBJECTS = {  # name, difficult
    '000005': [('chair', 0), ('chair', 1), ('dog', 1)],
    '000007': [('car', 0)],
    '000012': [],
}


def write_voc(folder: Path, splits: dict[str, list[str]], objects: dict[str, list[tuple[str, int]]] = OBJECTS) -> None:
    for part in ('Annotations', 'ImageSets/Main', 'JPEGImages'):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for split, names in splits.items():
        (folder / 'ImageSets' / 'Main' / f'{split}.txt').write_text(''.join(f'{name}\n' for name in names))
    for number, (name, found) in enumerate(objects.items()):
        items = ''.join(
            f'<object>\n<name>{kind}</name><pose>Left</pose><difficult>{difficult}</difficult>'
            '<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>'
            for kind, difficult in found
        )
        (folder / 'Annotations' / f'{name}.xml').write_text(
            f'<annotation><folder>VOC2007</folder><filename>{name}.jpg</filename>{items}</annotation>'
        )
        pixels = np.full((10, 12, 3), 40 * number % 256, np.uint8)
        Image.fromarray(pixels).save(folder / 'JPEGImages' / f'{name}.jpg')
