"""Pickles of a few bytes that would take hours or all memory are refused before anything is built from them."""

import io
import itertools
import pickle
import pickletools
import random
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from mocox.checkpoint import durable, read
from mocox.checkpoint.provenance import parse_config
from mocox.datasets import CIFAR10Images
from mocox.pickles import BYTES, CODEC, NESTED, find_cost

PAIR = b'X\x01\x00\x00\x00aX\x01\x00\x00\x00b\x86q\x00'  # ('a', 'b'), put at place 0 of the memo
# A pair of twice the one before, 40 times: 2^40 texts to look at when it is the key of a dict.
TREE = PAIR + b''.join(b'h%ch%c\x86q%c' % (n, n, n + 1) for n in range(40))
COSTLY = {
    'a key': (b'\x80\x02}' + TREE + b'K\x01s.', NESTED),
    'in a set': (b'\x80\x02cbuiltins\nset\n]' + TREE + b'a\x85R.', NESTED),
    'a path of paths': (b'\x80\x02' + TREE.replace(b'\x86', b'\x86cpathlib\nPosixPath\n\x85', 1) + b'.', NESTED),
    'punycode': (b'\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x08\x00\x00\x00punycode\x86R.', CODEC),
    'a bytearray': (b'\x80\x02cbuiltins\nbytearray\nJ\x00\x00\x00\x7f\x85R.', BYTES),
    'a bytearray of Python 3': (b'\x80\x04\x8c\x08builtins\x8c\x09bytearray\x93J\x00\x00\x00\x7f\x85R.', BYTES),
}


@pytest.mark.parametrize('kind', COSTLY)
def test_what_a_few_bytes_claim_is_found(kind):
    pickled, cost = COSTLY[kind]
    start = time.monotonic()
    assert find_cost(pickled) == cost
    assert time.monotonic() - start < 1


def test_what_people_save_costs_nothing():
    """Shared objects, long tuples, every protocol, NumPy's arrays and the state of a generator."""
    shared = ('a', ('b', 1.5), None)
    content = dict(
        many=[shared] * 1000, long=tuple(range(10**4)), state=random.getstate(), one={shared: 1}, texts={'punycode'},
        array=np.arange(5), bytes=b'\x80abc', number=np.float32(1), deep=[[[[1]]]], kind=np.dtype('<f4'),
    )  # fmt: skip
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert find_cost(pickle.dumps(content, protocol)) == ''


@pytest.mark.parametrize('kind', [kind for kind in COSTLY if 'Python 3' not in kind])
@pytest.mark.parametrize('is_old', [False, True])
@pytest.mark.parametrize('reader', [read, durable.verify, durable.read_position])
def test_no_reader_of_checkpoints_begins_with_one(tmp_path, kind, is_old, reader):
    path = tmp_path / 'small.pth'
    if is_old:
        torch.save(dict(a=torch.ones(1)), path, _use_new_zipfile_serialization=False)
        whole, content = path.read_bytes(), pickle.dumps(dict(a=1), 2)
        start = sum(len(part) for part in _pickles(whole)[:3])
        path.write_bytes(whole[:start] + COSTLY[kind][0] + content)
    else:
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr('archive/data.pkl', COSTLY[kind][0])
            archive.writestr('archive/version', '3\n')
    with pytest.raises(ValueError, match=COSTLY[kind][1]):
        reader(path)


def _pickles(content: bytes) -> list[bytes]:
    """The pickles that stand one behind the other at the start of a file."""
    file, ends = io.BytesIO(content), [0]
    for _ in range(3):
        list(pickletools.genops(file))
        ends.append(file.tell())
    return [content[start:end] for start, end in itertools.pairwise(ends)]


@pytest.mark.parametrize('pickled', [b'\x80\x02}r\xff\xff\xff\x03.', COSTLY['a key'][0], COSTLY['a bytearray'][0]])
def test_nor_do_cifar_and_pickles_of_arrays(tmp_path, pickled):
    """The first puts a dict at place 2^26 of the memo: the reader in C makes half a gigabyte for the places before."""
    path = Path(tmp_path, 'test_batch')
    path.write_bytes(pickled)
    tracemalloc.start()
    with pytest.raises(ValueError, match='not a CIFAR-10 batch'):
        CIFAR10Images(str(tmp_path), dict(type='CenterCrop'), split='test')
    with pytest.raises(ValueError, match='refused|pickle'):
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * 2**20


def test_names_of_wrappers_are_not_taken_off_for_ever(tmp_path):
    torch.save({'module.' * 30000 + 'fc.weight': torch.ones(2, 2)}, tmp_path / 'long.pth')
    with pytest.raises(ValueError, match=r"'module\.module.*'\.\.\. is a name of 210009 characters"):
        read(tmp_path / 'long.pth')


def test_a_config_of_millions_of_characters_is_not_parsed():
    """Python's parser would take gigabytes."""
    assert parse_config('a = [1]') == dict(a=[1])
    assert parse_config('a = [' + '1,' * 2**20 + ']') == {}


@pytest.mark.parametrize(('kind', 'key'), [(list, 'mean'), (list, 'anything'), (dict, 'pixels')])
def test_what_a_file_says_of_itself_is_left_out_where_it_would_not_end(tmp_path, kind, key):
    """A list of the same list twice, 45 deep."""
    value = ['a']
    for _ in range(45):
        value = dict(a=value, b=value) if kind is dict else [value, value]
    torch.save(dict(state_dict={'fc.weight': torch.ones(2, 2)}, mocox={key: value, 'epochs': 3}), tmp_path / 'a.pth')
    meta = read(tmp_path / 'a.pth').meta
    assert key not in meta
    assert meta['epochs'] == 3
