"""What a program calls gives what the classes below it give."""

import numpy as np
import pytest
import torch
from PIL import Image

import mocox
from mocox.__main__ import main


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
    with pytest.raises(ValueError, match=r'written as \.npz'):
        mocox.features(made / 'vit.pth', made / 'images', out=tmp_path / 'f.csv')


def test_names_of_the_package_are_found(made):
    assert all(getattr(mocox, name) for name in mocox.__all__)
    with pytest.raises(AttributeError, match='nothing_such'):
        mocox.nothing_such  # noqa: B018
