"""A folder copied into an LMDB is the same data set."""

import io
import os
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from mocox.datasets import ImageFiles, LMDBImages, collate_views, write_lmdb
from tests.support.image_folders import level_shown, make_files, names

CROPS = dict(type='RandomResizedCrops', size=8)


@pytest.fixture
def folder(tmp_path) -> Path:
    make_files(tmp_path / 'files', *(f'{c}/{n}.png' for c in ('dog', 'cat', 'ä') for n in range(4)), 'dog-1/x.png')
    (tmp_path / 'files/cat/2.png').write_bytes(b'')
    return tmp_path / 'files'


@pytest.mark.parametrize('num_workers', [0, 2])
def test_the_same_data_set_as_the_folder(folder, num_workers):
    file = f'{folder}.lmdb'
    assert write_lmdb(str(folder), file) == 13
    assert sorted(os.listdir(file)) == ['data.mdb']  # and nothing beside it: it may be read-only
    one, other = (kind(str(root), CROPS, with_labels=True) for kind, root in ((ImageFiles, folder), (LMDBImages, file)))
    assert [other.path(index) for index in range(13)] == names(one)
    assert other.metainfo == one.metainfo
    options = dict(batch_size=5, num_workers=num_workers, collate_fn=collate_views)
    for batch, same in zip(DataLoader(one, **options), DataLoader(other, **options), strict=True):
        for view, same_view in zip(batch['inputs'], same['inputs'], strict=True):
            assert (view == same_view).all()
        assert batch['label'].tolist() == same['label'].tolist()
    assert other.num_unreadable == one.num_unreadable == 1


def test_two_data_sets_of_one_file(folder):
    write_lmdb(str(folder), f'{folder}.lmdb')
    first, second = (LMDBImages(f'{folder}.lmdb', CROPS, True, classes=[name]) for name in ('dog', 'cat'))
    assert (len(first), len(second)) == (4, 4)
    assert level_shown(first[0]) != level_shown(second[0])


def test_what_cannot_be_written(folder, tmp_path):
    (tmp_path / 'empty').mkdir()
    make_files(tmp_path / 'long', '/'.join(['x' * 200] * 3) + '.png')
    for name, error, message in (
        ('none', FileNotFoundError, 'no folder'),
        ('empty', ValueError, 'no images'),
        ('long', ValueError, 'longer than 511'),
    ):
        with pytest.raises(error, match=message):
            write_lmdb(str(tmp_path / name), str(tmp_path / 'out.lmdb'))
    with pytest.raises(FileExistsError, match='files'):
        write_lmdb(str(folder), str(folder))
    (folder / 'gone.png').symlink_to('nowhere')
    with pytest.raises(FileNotFoundError, match='gone'):
        write_lmdb(str(folder), str(tmp_path / 'out.lmdb'))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['empty', 'files', 'long']  # nothing half-written


def test_what_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / 'text').write_text('text' * 5000)
    for name, error, message in (('none', FileNotFoundError, 'no LMDB'), ('text', ValueError, 'LMDB, or damaged')):
        with pytest.raises(error, match=message):
            LMDBImages(str(tmp_path / name), CROPS)
    monkeypatch.setitem(sys.modules, 'lmdb', None)
    with pytest.raises(ImportError, match=r'pip install "mocox\[lmdb\]"'):
        LMDBImages(str(tmp_path / 'other'), CROPS)


def test_an_empty_lmdb(tmp_path):
    __import__('lmdb').open(str(tmp_path / 'x.lmdb')).close()
    with pytest.raises(ValueError, match='is empty'):
        LMDBImages(str(tmp_path / 'x.lmdb'), CROPS)


@pytest.mark.slow
def test_the_tool(folder):
    tool = Path(__file__).parents[2] / 'tools/make_lmdb.py'
    command = [sys.executable, str(tool), str(folder), f'{folder}.lmdb']
    assert '13 images' in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 1
    assert again.stderr.startswith('error: ')
    assert 'exists' in again.stderr


def test_what_other_writers_keep_beside_the_images_is_no_image(tmp_path):
    """The number of samples, a pickled list of keys, labels: as torch and OCR tools write them."""
    picture = io.BytesIO()
    Image.new('RGB', (12, 12), (7, 7, 7)).save(picture, 'PNG')
    beside = [b'__len__', b'__keys__', b'num-samples', b'label-000000001', b'label-000000002', b'length']
    with lmdb.open(str(tmp_path / 'x.lmdb')) as database, database.begin(write=True) as transaction:
        for key in (b'image-000000001', b'image-000000002'):
            transaction.put(key, picture.getvalue())
        for key in beside:
            transaction.put(key, b'2')
    dataset = LMDBImages(str(tmp_path / 'x.lmdb'), CROPS)
    assert len(dataset) == 2
    ((_, note), *_) = dataset.describe_files()
    assert '2 images in' in note and "'label-*' 2" in note and "'__len__' 1" in note
    assert dataset[1]['inputs'][0].float().mean() == 7
