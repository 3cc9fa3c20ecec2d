"""IDX files as MNIST's page describes them, written here in miniature, and files that lie about themselves."""

import gzip
import re
import struct

import numpy as np
import pytest

from mocox.datasets import FashionMNISTImages, IDXImages
from mocox.datasets.idx import read_idx
from mocox.evaluation.data import open_data
from tests.support.idx_files import idx_bytes, write_idx_images

CROPS = dict(type='CenterCrop', size=5, resize=5)


@pytest.mark.parametrize('packed', [False, True])
def test_both_splits_with_and_without_gzip(tmp_path, packed):
    images, labels = write_idx_images(tmp_path, train=12, test=3, side=5, packed=packed)
    train = FashionMNISTImages(str(tmp_path), CROPS, with_labels=True)
    assert len(train) == 12
    item = train[7]
    np.testing.assert_array_equal(item['inputs'][0].numpy(), images['train'][7][None].repeat(3, axis=0))
    assert item['label'] == labels['train'][7]
    assert train.metainfo['classes'][9] == 'ankle boot'
    assert train.monitoring_labels().tolist() == labels['train'].tolist()
    test = FashionMNISTImages(str(tmp_path), CROPS, split='test', channels=1)
    np.testing.assert_array_equal(test[2]['inputs'][0].numpy(), images['test'][2][None])
    assert 'label' not in test[2]


def test_a_part_of_the_images(tmp_path):
    images, labels = write_idx_images(tmp_path, train=12, test=3, side=5)
    held_out = IDXImages(str(tmp_path), CROPS, with_labels=True, part=(8, 12))
    assert len(held_out) == 4
    np.testing.assert_array_equal(held_out.images, images['train'][8:])
    np.testing.assert_array_equal(held_out.labels, labels['train'][8:])
    for part in ((8, 13), (-1, 4), (4, 4)):
        with pytest.raises(ValueError, match=r'part=\[.*of 12 images'):
            IDXImages(str(tmp_path), CROPS, part=part)


def test_other_names_and_colour(tmp_path):
    colour = np.arange(2 * 5 * 5 * 3, dtype=np.uint8).reshape(2, 5, 5, 3)
    (tmp_path / 'a').write_bytes(idx_bytes(colour))
    (tmp_path / 'b').write_bytes(idx_bytes(np.array([3, 200], np.uint8)))
    found = IDXImages(str(tmp_path), CROPS, with_labels=True, images='a', labels='b')
    np.testing.assert_array_equal(found[1]['inputs'][0].numpy(), colour[1].transpose(2, 0, 1))
    assert found[1]['label'] == 200


def test_the_judge_finds_them(tmp_path):
    write_idx_images(tmp_path, train=12, test=3, side=5)
    data = open_data(str(tmp_path), CROPS)
    assert (len(data.train), len(data.test), data.num_classes) == (12, 3, 10)


def header(*shape: int, kind: int = 8) -> bytes:
    return struct.pack(f'>HBB{len(shape)}I', 0, kind, len(shape), *shape)


HOSTILE = {
    'nothing': (b'', 'unpack requires'),
    'half a header': (header(2, 3, 3)[:9], 'unpack requires'),
    'a PNG': (b'\x89PNG\r\n\x1a\n' + bytes(40), 'starts with 8950 4e 47'),
    'other numbers': (header(2, 2, 2, kind=13) + bytes(32), 'starts with 0000 0d 03'),
    'five dimensions': (header(1, 1, 1, 1, 1) + bytes(1), 'starts with 0000 08 05'),
    'no dimension': (header() + bytes(1), 'starts with 0000 08 00'),
    'no image': (header(0, 28, 28), 'says 0 x 28 x 28'),
    'more than memory': (header(*[2**32 - 1] * 3) + bytes(9), 'says 4294967295 x 4294967295'),
    'cut short': (header(4, 3, 3) + bytes(35), r'= 36 bytes, and it holds 35'),
    'too long': (header(4, 3, 3) + bytes(37), r'= 36 bytes, and it holds more'),
}


@pytest.mark.parametrize('packed', [False, True])
@pytest.mark.parametrize('kind', HOSTILE)
def test_hostile_files(tmp_path, kind, packed):
    content, message = HOSTILE[kind]
    path = tmp_path / ('images.gz' if packed else 'images')
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(ValueError, match=r'images(\.gz)?. is not an IDX file of unsigned bytes') as info:
        read_idx(str(path))
    assert len(str(info.value)) < 400
    assert re.search(message, str(info.value))


@pytest.mark.parametrize('damage', [b'not gzip at all', gzip.compress(bytes(100))[:-30], b'\x1f\x8b\x08' + bytes(40)])
def test_damaged_gzip(tmp_path, damage):
    path = tmp_path / 'images.gz'
    path.write_bytes(damage)
    with pytest.raises(ValueError, match='is not an IDX file'):
        read_idx(str(path))


def test_no_more_is_unpacked_than_the_header_says(tmp_path, monkeypatch):
    """A bomb: 64 MiB of zeros in 64 KiB, behind a header of 4 images."""
    path = tmp_path / 'images.gz'
    path.write_bytes(gzip.compress(header(4, 3, 3) + bytes(2**26)))
    asked = []
    read = gzip.GzipFile.read

    def spy(self, size=-1):
        asked.append(size)
        return read(self, size)

    monkeypatch.setattr(gzip.GzipFile, 'read', spy)
    with pytest.raises(ValueError, match='holds more'):
        read_idx(str(path))
    assert asked == [4, 12, 37]


def test_files_that_do_not_belong_together(tmp_path):
    write_idx_images(tmp_path, train=12, test=3, side=5)
    with pytest.raises(ValueError, match=r'3,\) for 12 images .* do not belong together'):
        IDXImages(str(tmp_path), CROPS, labels='t10k-labels-idx1-ubyte')
    with pytest.raises(ValueError, match=r'holds \(12,\): images are \(N, height, width\)'):
        IDXImages(str(tmp_path), CROPS, images='train-labels-idx1-ubyte')
    (tmp_path / 'letters').write_bytes(idx_bytes(np.full(12, 26, np.uint8)))
    with pytest.raises(ValueError, match=r"labels up to 26, Fashion-MNIST has 10 classes.*type='IDXImages'"):
        FashionMNISTImages(str(tmp_path), CROPS, labels='letters')
    with pytest.raises(ValueError, match=r"split.*'val'"):
        IDXImages(str(tmp_path), CROPS, split='val')
    with pytest.raises(FileNotFoundError, match=r'no Fashion-MNIST in .*train-images.*gz.*dataset-fashion-mnist'):
        FashionMNISTImages(str(tmp_path / 'elsewhere'), CROPS)
