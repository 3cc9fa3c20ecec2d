"""Both archives of CIFAR-10 and of CIFAR-100, written here in miniature, in the published layout."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from mocox.datasets import CIFAR10Images, CIFAR100Images

CROPS = dict(type='CenterCrop', size=32, resize=32)
FILES = [*(f'data_batch_{number}' for number in range(1, 6)), 'test_batch']


@pytest.fixture(scope='module')
def batches() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return {name: (rng.integers(0, 256, (2, 3072), np.uint8), rng.integers(0, 10, 2, np.uint8)) for name in FILES}


def write_binary(folder: Path, batches: dict) -> None:
    folder.mkdir(exist_ok=True)
    for name, (images, labels) in batches.items():
        (folder / f'{name}.bin').write_bytes(np.column_stack([labels, images]).tobytes())


def write_pickle(folder: Path, batches: dict) -> None:
    folder.mkdir(exist_ok=True)
    for name, (images, labels) in batches.items():
        content = {b'batch_label': b'', b'labels': labels.tolist(), b'data': images, b'filenames': [b'a.png', b'b.png']}
        (folder / name).write_bytes(pickle.dumps(content, protocol=4))


@pytest.mark.parametrize('write', [write_binary, write_pickle])
@pytest.mark.parametrize('folder', ['', 'cifar-10-batches-bin', 'cifar-10-batches-py'])
def test_both_archives(tmp_path, batches, write, folder):
    write(tmp_path / folder, batches)
    train = CIFAR10Images(str(tmp_path), CROPS, with_labels=True)
    assert len(train) == 10
    images, labels = batches['data_batch_2']
    item = train[3]  # the second image of the second file
    np.testing.assert_array_equal(item['inputs'][0].numpy(), images[1].reshape(3, 32, 32))  # red, green, blue plane
    assert item['label'] == labels[1]
    assert train.metainfo['classes'][3] == 'cat'
    test = CIFAR10Images(str(tmp_path), CROPS, split='test')
    np.testing.assert_array_equal(test[0]['inputs'][0].numpy().ravel(), batches['test_batch'][0][0])
    assert 'label' not in test[0]


def test_pickle_of_python_2(tmp_path, batches):
    """The real archive: protocol 2, byte strings, a NumPy 1 module path."""
    images = batches['test_batch'][0]
    data = images.tobytes()
    size = len(data).to_bytes(4, 'little')
    dtype = b'cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb'
    state = b'(K\x01K\x02M\x00\x0c\x86' + dtype + b'\x89T'
    array = b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R' + state + size + data + b'tb'
    (tmp_path / 'test_batch').write_bytes(b'\x80\x02}(U\x04data' + array + b'U\x06labels](K\x04K\x09eu.')
    dataset = CIFAR10Images(str(tmp_path), CROPS, split='test', with_labels=True)
    np.testing.assert_array_equal(dataset.images.transpose(0, 3, 1, 2).reshape(2, 3072), images)
    assert dataset.labels.tolist() == [4, 9]


class Malicious:
    def __reduce__(self):
        return print, ('this must not run',)


def test_a_pickle_cannot_run_code(tmp_path, capsys):
    (tmp_path / 'test_batch').write_bytes(pickle.dumps({'data': Malicious(), 'labels': [1]}))
    with pytest.raises(ValueError, match=r'asks for builtins\.print'):
        CIFAR10Images(str(tmp_path), CROPS, split='test')
    assert not capsys.readouterr().out


def test_missing_or_damaged_files(tmp_path, batches):
    with pytest.raises(FileNotFoundError, match=r'no CIFAR-10.*data_batch_1\.bin.*toronto\.edu.*--data-root') as info:
        CIFAR10Images(str(tmp_path), CROPS)
    assert str(tmp_path) in str(info.value)
    with pytest.raises(ValueError, match=r"split.*'val'"):
        CIFAR10Images(str(tmp_path), CROPS, split='val')
    for content in (b'', b'\0' * 3072, b'\xff' * 3073):  # nothing, not a whole record, label 255
        (tmp_path / 'test_batch.bin').write_bytes(content)
        with pytest.raises(ValueError, match=r'test_batch\.bin.* is not a CIFAR-10 batch'):
            CIFAR10Images(str(tmp_path), CROPS, split='test')


@pytest.mark.parametrize('folder', ['', 'cifar-100-binary', 'cifar-100-python'])
@pytest.mark.parametrize('binary', [True, False])
def test_cifar100_has_fine_labels(tmp_path, folder, binary):
    """Binary records start with the coarse label, the fine one follows."""
    images = np.random.default_rng(0).integers(0, 256, (3, 3072), np.uint8)
    fine, coarse = np.array([99, 0, 57], np.uint8), np.array([1, 2, 3], np.uint8)
    (tmp_path / folder).mkdir(exist_ok=True)
    if binary:
        (tmp_path / folder / 'train.bin').write_bytes(np.column_stack([coarse, fine, images]).tobytes())
    else:
        content = {b'fine_labels': fine.tolist(), b'coarse_labels': coarse.tolist(), b'data': images}
        (tmp_path / folder / 'train').write_bytes(pickle.dumps(content, protocol=4))
    train = CIFAR100Images(str(tmp_path), CROPS, with_labels=True)
    assert [train[i]['label'] for i in range(3)] == [99, 0, 57]
    np.testing.assert_array_equal(train[2]['inputs'][0].numpy().ravel(), images[2])
    with pytest.raises(FileNotFoundError, match='no CIFAR-100.*cifar-100-binary'):
        CIFAR100Images(str(tmp_path), CROPS, split='test')
