"""Opening and writing files."""

import argparse
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from mocox.checkpoint import read
from mocox.checkpoint.files import open_file, save_tensors, write_atomically

PNG = b'\x89PNG\r\n\x1a\n' + bytes(100)


class Bomb:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize('legacy', [False, True])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path, legacy):
    path, proof = tmp_path / 'bomb.pth', tmp_path / 'ran'
    torch.save({'state_dict': {'w': torch.ones(1)}, 'x': Bomb(proof)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r'refused: loading it would call \w+\.mkdir'):
        read(path)
    assert not proof.exists()


def test_a_bare_pickle_bomb_is_refused(tmp_path):
    path, proof = tmp_path / 'bomb.pkl', tmp_path / 'ran'
    path.write_bytes(pickle.dumps(Bomb(proof)))
    with pytest.raises(ValueError, match='bomb.pkl is'):
        read(path)
    assert not proof.exists()


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'empty'),
        (b'epoch,loss\n1,2.0\n', 'not a checkpoint but a text file'),
        (b'<!DOCTYPE html><html></html>', 'HTML'),
        (b'version https://git-lfs.github.com/spec/v1\n', 'git lfs pull'),
        (PNG, 'PNG'),
        (b'\xff\xd8\xff' + bytes(100), 'JPEG'),
        (bytes(range(256)), 'not a checkpoint'),
    ],
)
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_what_is_not_a_checkpoint_is_named(tmp_path, content, message, suffix):
    path = tmp_path / f'file{suffix}'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read(path)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('kept', [0.2, 0.9])
def test_a_truncated_file_says_so(tmp_path, suffix, kept):
    path = tmp_path / f'file{suffix}'
    save_tensors(path, {'conv1.weight': torch.randn(64, 64)}, {})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(ValueError, match='damaged or truncated'):
        read(path)


def test_missing_file_remote_file_and_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.pth'):
        read(tmp_path / 'nowhere.pth')
    with pytest.raises(ValueError, match='download the file first'):
        read('https://example.org/vit.pth')
    with pytest.raises(ValueError, match='directory without model.safetensors'):
        read(tmp_path)


def test_no_tensors(tmp_path):
    torch.save([torch.ones(1)], tmp_path / 'list.pth')
    with pytest.raises(ValueError, match='holds a list'):
        read(tmp_path / 'list.pth')
    torch.save({'epoch': 3, 'state_dict': {}}, tmp_path / 'none.pth')
    with pytest.raises(ValueError, match='no tensors'):
        read(tmp_path / 'none.pth')


def test_harmless_types_beside_the_weights_are_read(tmp_path):
    """Log histories (MMEngine), parsed arguments (DeiT), NumPy arrays and scalars."""
    history = HistoryBuffer()
    history.update(1.5)
    beside = dict(history=history, args=argparse.Namespace(out=tmp_path), scalar=np.float64(2), array=np.arange(3))
    torch.save({'state_dict': {'conv1.weight': torch.ones(1)}, **beside}, tmp_path / 'file.pth')
    assert open_file(tmp_path / 'file.pth')[0]['array'].tolist() == [0, 1, 2]


def test_other_classes_are_refused_by_name(tmp_path):
    torch.save({'state_dict': {'w': torch.ones(1)}, 'x': np.str_('a')}, tmp_path / 'file.pth')
    with pytest.raises(ValueError, match='refused: loading it would call numpy'):
        read(tmp_path / 'file.pth')


def test_content_decides_not_the_suffix(tmp_path):
    save_file({'conv1.weight': torch.ones(2)}, tmp_path / 'weights.pth')
    assert read(tmp_path / 'weights.pth').state_dict['backbone.conv1.weight'].tolist() == [1, 1]


def test_a_file_does_not_carry_larger_storages_along(tmp_path):
    large = torch.randn(1000, 1000)
    save_tensors(tmp_path / 'small.pth', {'conv1.weight': large[:2], 'alias': large[:1].T}, {})
    assert (tmp_path / 'small.pth').stat().st_size < 30_000


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / 'file.pth'
    path.write_text('old')

    def fail(temporary: str) -> None:
        Path(temporary).write_text('half')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert path.read_text() == 'old'
    assert os.listdir(tmp_path) == ['file.pth']


class RunsCode:
    def __reduce__(self):
        return os.system, ('touch it_ran',)


@pytest.mark.parametrize('protocol', range(6))
def test_a_plain_pickle_that_runs_code_is_called_by_its_name(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    Path('bad.pth').write_bytes(pickle.dumps({'state_dict': RunsCode()}, protocol))
    with pytest.raises(ValueError, match=r'a Python pickle.* refused.*\.system.*malicious'):
        open_file('bad.pth')
    assert not Path('it_ran').exists()


@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_a_plain_pickle_of_data(tmp_path, protocol):
    (tmp_path / 'a.pkl').write_bytes(pickle.dumps({'a': [1, 2]}, protocol))
    with pytest.raises(ValueError, match='is a Python pickle, not a file of torch.save') as caught:
        open_file(tmp_path / 'a.pkl')
    assert 'weights_only' not in str(caught.value)  # torch advises to load it unsafely


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    torch.save({'w': torch.zeros(2**20)}, tmp_path / 'good.pth')
    with zipfile.ZipFile(tmp_path / 'good.pth') as good, zipfile.ZipFile(tmp_path / 'bomb.pth', 'w') as bomb:
        for name in good.namelist():
            bomb.writestr(name, good.read(name), zipfile.ZIP_DEFLATED)
    open_file(tmp_path / 'good.pth')
    with pytest.raises(ValueError, match=r'bomb\.pth is refused: its \d+ bytes unpack to 4\d{6}'):
        open_file(tmp_path / 'bomb.pth')


@pytest.mark.parametrize(
    'tensor',
    [torch.zeros(1).expand(2**40), torch.zeros(2**40, device='meta'), torch.sparse_coo_tensor(size=(2**30, 2**30))],
    ids=['one number', 'no storage', 'sparse'],
)
def test_tensors_that_claim_more_than_they_hold(tmp_path, tensor):
    for weights in ({'backbone.w': tensor}, [[tensor]], ({}, (tensor,))):
        torch.save({'state_dict': weights}, tmp_path / 'x.pth')
        with pytest.raises(ValueError, match=r'x\.pth is refused'):
            open_file(tmp_path / 'x.pth')


def test_an_archive_that_torch_takes_for_an_old_file(tmp_path):
    """PyTorch decides by the first bytes, zip readers by the last ones."""
    torch.save({'w': torch.zeros(2)}, tmp_path / 'good.pth')
    bomb = pickle.dumps(Claims(), 2)
    (tmp_path / 'bomb.pth').write_bytes(bomb + (tmp_path / 'good.pth').read_bytes())
    with pytest.raises(ValueError, match='bytearray'):
        open_file(tmp_path / 'bomb.pth')


class Claims:
    def __reduce__(self) -> tuple:
        return bytearray, (2 * 10**9,)


def test_a_tensor_may_be_called_as_it_likes(tmp_path):
    torch.save({'bytearray': torch.zeros(2)}, tmp_path / 'good.pth')
    assert 'bytearray' in open_file(tmp_path / 'good.pth')[0]


@pytest.mark.parametrize('text', ['{', '[' * 10**5, '[1]', '\xff'])
def test_settings_beside_the_weights_that_are_none(tmp_path, text):
    save_tensors(tmp_path / 'model.safetensors', {'w': torch.zeros(1)}, {})
    (tmp_path / 'config.json').write_text(text, encoding='latin-1')
    with pytest.raises(ValueError, match=r'config\.json'):
        open_file(tmp_path)
