"""What a program calls gives what the classes below it give."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mocox
from mocox.__main__ import main
from mocox.processes.launch import train_in_processes
from tests.support.processes import forget_runner
from tests.support.tiny_run import write_run

TINY = {
    'model.neck.hid_channels': 16,
    'model.neck.in_channels': 64,
    'model.head.predictor.hid_channels': 16,
    'model.backbone.base_channels': 8,
    'model.backbone.stem_channels': 8,
    'default_hooks.report.num_images': 0,
}


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A checkpoint of a ViT of two blocks, and a folder with three images, one of them broken."""
    from mocox.models.backbones import MoCoViT

    folder = tmp_path_factory.mktemp('api')
    arch = dict(embed_dims=16, num_layers=2, num_heads=4, feedforward_channels=32)
    torch.manual_seed(0)
    vit = MoCoViT(arch=arch, img_size=32, patch_size=8)
    vit.init_weights()
    tensors = {f'backbone.{name}': value for name, value in vit.state_dict().items()}
    torch.save(dict(state_dict=tensors), folder / 'vit.pth')
    (folder / 'images').mkdir()
    for index, level in enumerate((50, 200)):
        Image.new('RGB', (40, 40), (level, 0, 100)).save(folder / 'images' / f'{index}.png')
    (folder / 'images' / '9.png').write_bytes(b'no image')
    return folder


def test_features_of_a_folder_are_those_of_its_images(made):
    paths = [str(made / 'images' / f'{index}.png') for index in range(2)]
    expected = mocox.FeatureExtractor(made / 'vit.pth', heads=4)(paths)
    found = mocox.features(made / 'vit.pth', made / 'images', heads=4)
    assert found.paths == paths  # the broken one is left out
    np.testing.assert_array_equal(found.features, expected)
    np.testing.assert_array_equal(mocox.load(made / 'vit.pth', heads=4)(paths), expected)


def test_the_command_writes_what_the_call_returns(made, tmp_path, capsys):
    out = tmp_path / 'new' / 'f.npz'
    main(['features', str(made / 'vit.pth'), str(made / 'images'), '--out', str(out), '--heads', '4'])
    assert f'{out}: 2 images, 16 numbers each' in capsys.readouterr().out
    written = np.load(out, allow_pickle=False)
    found = mocox.features(made / 'vit.pth', [made / 'images'], heads=4)
    np.testing.assert_array_equal(written['features'], found.features)
    assert written['paths'].tolist() == found.paths


def test_features_of_another_kind_of_file_are_refused(made, tmp_path):
    with pytest.raises(ValueError, match=r'written as \.npz, \.parquet, \.csv'):
        mocox.features(made / 'vit.pth', made / 'images', out=tmp_path / 'f.txt')


def test_names_of_the_package_are_found(made):
    assert all(getattr(mocox, name) for name in mocox.__all__)
    with pytest.raises(AttributeError, match='nothing_such'):
        mocox.nothing_such  # noqa: B018


@pytest.mark.slow
def test_pretrain_is_the_command_and_its_config(tmp_path, capsys, monkeypatch):
    """The three runs of one plan end in the same weights, bit for bit."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path)
    run = mocox.pretrain('images', out='called', epochs=1, image_size=32, options=TINY)
    shown = capsys.readouterr().out
    assert '24 images in images' in shown and 'batch       8' in shown  # a quarter would be 6; at least 8
    assert run.checkpoint == Path('called/epoch_1.pth')
    assert run.report.is_file() and 'iframe' in run._repr_html_()
    assert np.isfinite(run.numbers['loss'])
    forget_runner()
    options = [f'{key}={value}' for key, value in TINY.items()]
    main(['pretrain', 'images', '--out', 'command', '--epochs', '1', '--image-size', '32', '--cfg-options', *options])
    forget_runner()
    main(['train', 'called/auto.py', '--work-dir', 'config'])
    weights = [torch.load(f'{name}/epoch_1.pth', weights_only=True) for name in ('called', 'command', 'config')]
    for other in weights[1:]:
        assert other['state_dict'].keys() == weights[0]['state_dict'].keys()
        assert all(torch.equal(value, weights[0]['state_dict'][key]) for key, value in other['state_dict'].items())
    with pytest.raises(ValueError, match='holds a run already'):
        mocox.pretrain('images', out='called')


@pytest.mark.slow
@pytest.mark.dist
def test_two_processes_train_from_python(tmp_path, capsys, monkeypatch):
    """They see four images each of a step, and every image once an epoch between them."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path)
    run = mocox.pretrain('images', out='both', epochs=1, image_size=32, options=TINY, processes=2)
    shown = capsys.readouterr().out
    assert '2 x 4 = 8 images; 3 steps per epoch' in shown  # 24 images
    assert run.checkpoint == Path('both/epoch_1.pth') and run.report.is_file()
    with pytest.raises(ChildProcessError, match='2 processes ended with exit code 1'):
        train_in_processes('nowhere.py', 'other', 2)
    assert 'nowhere.py' in capsys.readouterr().out


def test_pretrain_refuses_what_it_does_not_know(tmp_path):
    with pytest.raises(ValueError, match="'resnet19': choose one of resnet18"):
        mocox.pretrain(tmp_path, out=tmp_path / 'out', model='resnet19')
    with pytest.raises(FileNotFoundError, match='nowhere'):
        mocox.pretrain(tmp_path / 'nowhere', out=tmp_path / 'out')
    write_run(tmp_path)
    with pytest.raises(ValueError, match=r'images has only 24 images, which fill no batch of 25: choose a smaller'):
        mocox.pretrain(tmp_path / 'images', out=tmp_path / 'out', batch_size=25)
