"""Flowers-102, Pets and iNaturalist, written here in miniature, in the published layouts."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from mocox.datasets import FlowersImages, INaturalistImages, PetsImages

CROPS = dict(type='CenterCrop', size=8, resize=8)


def write_image(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (12, 10), (level, level, level)).save(path, 'PNG')


def shown(dataset) -> list[tuple[int, int]]:
    """(level of the image, label) of every item."""
    items = [dataset[index] for index in range(len(dataset))]
    return [(int(item['inputs'][0].unique()), item['label']) for item in items]


@pytest.fixture
def flowers(tmp_path):
    """Six images; image n has level n. MATLAB counts from 1 and has row vectors."""
    for number in range(1, 7):
        write_image(tmp_path / 'jpg' / f'image_{number:05d}.jpg', number)
    savemat(tmp_path / 'imagelabels.mat', dict(labels=np.array([[3, 1, 2, 1, 2, 3]], np.uint8)))
    splits = dict(trnid=np.array([[2, 5]]), valid=np.array([[1]]), tstid=np.array([[6, 3, 4]]))
    savemat(tmp_path / 'setid.mat', splits)
    return tmp_path


def test_flowers(flowers):
    root = str(flowers)
    assert shown(FlowersImages(root, 'train', CROPS, with_labels=True)) == [(2, 0), (5, 1)]
    assert shown(FlowersImages(root, 'trainval', CROPS, with_labels=True)) == [(2, 0), (5, 1), (1, 2)]
    assert shown(FlowersImages(root, 'test', CROPS, with_labels=True)) == [(6, 2), (3, 1), (4, 0)]
    assert 'label' not in FlowersImages(root, 'val', CROPS)[0]


def test_flowers_with_bad_files(flowers):
    with pytest.raises(ValueError, match=r"split.*'all'"):
        FlowersImages(str(flowers), 'all', CROPS)
    savemat(flowers / 'setid.mat', dict(tstid=np.array([[7]])))
    with pytest.raises(ValueError, match=r'setid\.mat.*image 7.*6 labels'):
        FlowersImages(str(flowers), 'test', CROPS)
    with pytest.raises(ValueError, match=r"setid\.mat.* has no 'trnid'"):
        FlowersImages(str(flowers), 'train', CROPS)
    (flowers / 'setid.mat').write_bytes(b'no')
    with pytest.raises(ValueError, match=r'setid\.mat.* is not a MATLAB file'):
        FlowersImages(str(flowers), 'test', CROPS)
    (flowers / 'setid.mat').unlink()
    with pytest.raises(FileNotFoundError, match=r'setid\.mat.*robots\.ox\.ac\.uk.*--data-root'):
        FlowersImages(str(flowers), 'test', CROPS)
    with pytest.raises(FileNotFoundError, match=r'FlowersImages: there is no .*jpg.*--data-root'):
        FlowersImages(str(flowers / 'jpg'), 'test', CROPS)


def test_pets(tmp_path):
    lines = ['Abyssinian_100 1 1 1', 'yorkshire_terrier_9 3 2 2', 'beagle_1 2 2 1']
    for level, line in enumerate(lines):
        write_image(tmp_path / 'images' / f'{line.split()[0]}.jpg', level)
    annotations = tmp_path / 'annotations'
    annotations.mkdir()
    (annotations / 'trainval.txt').write_text('# Image CLASS-ID SPECIES BREED ID\n' + '\n'.join(lines) + '\n')
    (annotations / 'test.txt').write_text(lines[1] + '\n')
    train = PetsImages(str(tmp_path), 'trainval', CROPS, with_labels=True)
    assert shown(train) == [(0, 0), (1, 2), (2, 1)]
    assert train.metainfo['classes'] == ('Abyssinian', 'beagle', 'yorkshire_terrier')
    assert shown(PetsImages(str(tmp_path), 'test', CROPS, with_labels=True)) == [(1, 2)]  # the label of its number
    (annotations / 'test.txt').write_text('beagle_1\n')
    with pytest.raises(ValueError, match=r"test\.txt.*'beagle_1' is not"):
        PetsImages(str(tmp_path), 'test', CROPS)
    (annotations / 'test.txt').write_text('\n')
    with pytest.raises(ValueError, match='PetsImages.*no images'):
        PetsImages(str(tmp_path), 'test', CROPS)


def write_inaturalist(root: Path, split: str, labels: dict[int, int]) -> None:
    """Category ids need neither start at 0 nor be dense; annotations come in another order than images."""
    images = [dict(id=i, file_name=f'train_val2018/Aves/{c}/{i}.jpg') for i, c in labels.items()]
    for image in images:
        write_image(root / image['file_name'], image['id'])
    annotations = [dict(id=i, image_id=i, category_id=c) for i, c in reversed(labels.items())]
    categories = [dict(id=c, name=f'species {c}') for c in (7, 2, 5)]
    (root / f'{split}.json').write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))


def test_inaturalist(tmp_path):
    write_inaturalist(tmp_path, 'train2018', {10: 7, 11: 2, 12: 5})
    write_inaturalist(tmp_path, 'val2018', {20: 7})
    train = INaturalistImages(str(tmp_path), 'train2018', CROPS, with_labels=True)
    assert shown(train) == [(10, 2), (11, 0), (12, 1)]
    assert train.metainfo['classes'] == ('species 2', 'species 5', 'species 7')
    assert shown(INaturalistImages(str(tmp_path), 'val2018', CROPS, with_labels=True)) == [(20, 2)]
    with pytest.raises(FileNotFoundError, match=r'test2018\.json.*inat_comp'):
        INaturalistImages(str(tmp_path), 'test2018', CROPS)
    (tmp_path / 'test2018.json').write_text('{"images": []}')
    with pytest.raises(ValueError, match=r"test2018\.json.*\['annotations', 'categories'\]"):
        INaturalistImages(str(tmp_path), 'test2018', CROPS)
