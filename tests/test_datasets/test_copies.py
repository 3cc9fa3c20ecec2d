"""Test images that are training images: found by content, whatever their names."""

import shutil

import pytest

from mocox.datasets import ImageFiles
from mocox.datasets.copies import describe_copies
from mocox.doctor import _check_held_out
from tests.test_evaluation.images import write_images

CROPS = dict(type='CenterCrop', size=8, resize=8)


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path, train=(6, 6), val=(3, 3))
    for path in (tmp_path / 'val').rglob('*.png'):  # what the generator drew again would be no copy by accident
        path.write_bytes(path.read_bytes() + b'val')
    return tmp_path


def found(folder):
    return describe_copies(*(ImageFiles(str(folder), CROPS, data_prefix=name) for name in ('train', 'val')))


def test_copies_are_counted_and_named(folder):
    assert found(folder) == ''
    shutil.copy(folder / 'train/dark/4.png', folder / 'val/bright/new name.png')
    (folder / 'val/dark/0.png').write_bytes((folder / 'train/bright/1.png').read_bytes())
    (folder / 'val/dark/1.png').write_bytes(bytes((folder / 'train/bright/1.png').stat().st_size))  # only as large
    words = found(folder)
    assert words.startswith('2 of 7 test images looked at are also training images, byte for byte: ')
    assert f"'{folder}/val/dark/0.png' = '{folder}/train/bright/1.png'" in words
    (finding,) = _check_held_out(ImageFiles(str(folder), CROPS))
    assert finding.level == 'warning' and finding.title == f'val: {words}'


def test_links_and_missing_files_are_no_error(folder):
    (folder / 'val/dark/0.png').unlink()
    (folder / 'val/dark/0.png').symlink_to(folder / 'nowhere')
    (folder / 'val/dark/1.png').unlink()
    (folder / 'val/dark/1.png').symlink_to(folder / 'train/dark/2.png')
    assert found(folder).startswith('1 of 6 test images')
