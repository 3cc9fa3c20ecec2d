"""Public data sets with a few small images, in the layout in which their authors publish them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)


def write_image(path: Path, size: tuple[int, int] = (48, 40), level: int | None = None) -> None:
    """A noisy image, or one of a single level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if level is None:
        pixels = RNG.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    else:
        pixels = np.full((size[1], size[0], 3), level, np.uint8)
    Image.fromarray(pixels).save(path)


def write_mask(path: Path, values: list[int], size: tuple[int, int] = (48, 40)) -> None:
    """A palette-free label image with vertical bands of the given values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = np.array(values, np.uint8)[np.arange(size[0]) * len(values) // size[0]]
    Image.fromarray(np.tile(columns, (size[1], 1))).save(path)


def write_class_folders(root: Path, classes: list[str], images: int, pattern: str = '{}.png') -> None:
    for name in classes:
        for number in range(images):
            write_image(root / name / pattern.format(number))


def write_coco(root: Path) -> None:
    """Needs mmdet, for the names of the 80 classes."""
    from mmdet.datasets import CocoDataset

    names = CocoDataset.METAINFO['classes']
    categories = [dict(id=number, name=name) for number, name in enumerate(names, 1)]
    for split in ('train', 'val'):
        images, annotations = [], []
        for number in range(1, 5):
            name = f'{number:012}.jpg'
            write_image(root / f'{split}2017' / name, (96, 64))
            images.append(dict(id=number, file_name=name, width=96, height=64))
            box = [8, 8, 56, 40]
            polygon = [8, 8, 64, 8, 64, 48, 8, 48]
            annotations.append(
                dict(id=number, image_id=number, category_id=18, bbox=box, area=2240, iscrowd=0, segmentation=[polygon])
            )
        content = dict(images=images, annotations=annotations, categories=categories)
        (root / 'annotations').mkdir(exist_ok=True)
        (root / 'annotations' / f'instances_{split}2017.json').write_text(json.dumps(content))


VOC_XML = """<annotation><size><width>96</width><height>64</height><depth>3</depth></size><object><name>dog</name>
<difficult>0</difficult><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>64</xmax><ymax>48</ymax></bndbox></object>
</annotation>"""


def write_voc0712(root: Path) -> None:
    for year, splits in (('VOC2007', ('trainval', 'test')), ('VOC2012', ('trainval',))):
        for split in splits:
            names = [f'{split}_{number}' for number in range(3)]
            for name in names:
                write_image(root / year / 'JPEGImages' / f'{name}.jpg', (96, 64))
                (root / year / 'Annotations').mkdir(exist_ok=True)
                (root / year / 'Annotations' / f'{name}.xml').write_text(VOC_XML)
            list_file = root / year / 'ImageSets' / 'Main' / f'{split}.txt'
            list_file.parent.mkdir(parents=True, exist_ok=True)
            list_file.write_text('\n'.join(names) + '\n')


def write_voc12aug(root: Path) -> None:
    """``root`` is what ``VOCdevkit/VOC2012`` is in the archive."""
    for split, folder in (
        ('train', 'SegmentationClass'),
        ('aug', 'SegmentationClassAug'),
        ('val', 'SegmentationClass'),
    ):
        names = [f'{split}_{number}' for number in range(2)]
        for name in names:
            write_image(root / 'JPEGImages' / f'{name}.jpg')
            write_mask(root / folder / f'{name}.png', [0, 12, 255])
        list_file = root / 'ImageSets' / 'Segmentation' / f'{split}.txt'
        list_file.parent.mkdir(parents=True, exist_ok=True)
        list_file.write_text('\n'.join(names) + '\n')


def write_ade20k(root: Path) -> None:
    for split in ('training', 'validation'):
        for number in range(3):
            write_image(root / 'images' / split / f'{number}.jpg')
            write_mask(root / 'annotations' / split / f'{number}.png', [0, 1, 150])


def write_cityscapes(root: Path) -> None:
    for split in ('train', 'val'):
        for number in range(3):
            write_image(root / 'leftImg8bit' / split / 'ulm' / f'ulm_{number}_leftImg8bit.png')
            write_mask(root / 'gtFine' / split / 'ulm' / f'ulm_{number}_gtFine_labelTrainIds.png', [0, 18, 255])
