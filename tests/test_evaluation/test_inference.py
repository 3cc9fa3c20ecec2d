"""Images of any kind to features, the same as those of the model; and search among them."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import mocox
from mocox.evaluation.search import search_images
from mocox.visualize.sheets import draw_grid, save_picture
from tests.support.tiny_run import run_tool
from tests.test_checkpoint.conftest import VIT, official_file, pretraining_model
from tests.test_evaluation.images import write_images

MEAN, STD = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('inference')
    write_images(folder / 'images', side=32, all=(4, 4))
    torch.manual_seed(0)
    torch.save(dict(state_dict=pretraining_model(VIT).state_dict()), folder / 'mocox.pth')
    official_file(folder / 'official.pth.tar', VIT)
    return folder


@pytest.fixture
def paths(folder):
    return sorted((folder / 'images').rglob('*.png'))


@pytest.fixture
def model(folder):
    model = pretraining_model(VIT)
    model.load_state_dict(torch.load(folder / 'mocox.pth', weights_only=True)['state_dict'])
    return model.eval()


def prepared(paths):
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(path))).float() for path in paths])
    return ((pixels - MEAN) / STD).permute(0, 3, 1, 2)


@pytest.mark.parametrize('level', ['backbone', 'projector'])
@pytest.mark.parametrize('encoder', ['query', 'momentum'])
def test_features_are_those_of_the_model(folder, paths, model, level, encoder):
    owner = model if encoder == 'query' else model.momentum_encoder
    with torch.no_grad():
        expected = owner.backbone(prepared(paths))
        expected = expected[-1] if level == 'backbone' else owner.neck(expected)[-1]
    settings = dict(level=level, encoder=encoder, batch_size=3)
    from_file = mocox.extract_features(folder / 'mocox.pth', paths, heads=4, **settings)
    from_model = mocox.extract_features(model, paths, image_size=32, **settings)
    for features in (from_file, from_model):
        assert isinstance(features, np.ndarray)
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


def test_every_kind_of_image_gives_the_same(folder, paths):
    extract = mocox.FeatureExtractor(folder / 'mocox.pth', heads=4)
    expected = extract(paths)
    arrays = [np.array(Image.open(path)) for path in paths]
    kinds = [
        map(str, paths),
        [Image.open(path) for path in paths],
        arrays,
        [torch.from_numpy(array).permute(2, 0, 1) for array in arrays],
        torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2),
        [paths[0], *arrays[1:]],
    ]
    for images in kinds:
        np.testing.assert_array_equal(extract(images), expected)
    for images in (prepared(paths), list(prepared(paths))):
        np.testing.assert_allclose(extract(images, batch_size=3), expected, rtol=1e-4, atol=1e-5)
    gray = arrays[0][:, :, 0]
    np.testing.assert_array_equal(extract([gray]), extract([Image.fromarray(gray)]))


def test_a_model_of_any_kind_stays_as_it_was(paths):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    model.train()
    model[1].eval()  # a frozen part
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first, second = (mocox.extract_features(model, paths, image_size=32) for _ in range(2))
    assert first.shape == (8, 4)
    np.testing.assert_array_equal(first, second)
    assert [module.training for module in model] == [True, False, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ('images', 'error', 'message'),
    [
        ('image.png', TypeError, r'must be a list, got str: pass \[image\]'),
        ([], ValueError, 'no images'),
        ([3], TypeError, 'not int'),
        ([np.zeros((4, 4, 3))], TypeError, r'not float64 of shape \(4, 4, 3\)'),
        (['/nowhere.png'], FileNotFoundError, '/nowhere.png'),
        ([__file__], ValueError, 'test_inference.py cannot be read as an image'),
        ([torch.zeros(3, 8, 8), torch.zeros(3, 4, 4)], ValueError, 'of one shape'),
    ],
)
def test_what_is_no_list_of_images(folder, images, error, message):
    with pytest.raises(error, match=message):
        mocox.extract_features(folder / 'mocox.pth', images, heads=4)


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(level='projector'), 'Conv2d has no projector'), (dict(encoder='momentum'), 'Conv2d has no momentum encoder'),
    (dict(level='x'), "level='x'"), (dict(encoder='x'), "encoder='x'")])  # fmt: skip
def test_what_a_model_does_not_have(settings, message):
    with pytest.raises(ValueError, match=message):
        mocox.FeatureExtractor(nn.Conv2d(3, 4, 3), **settings)


def test_importing_mocox_stays_cheap():
    code = 'import sys, mocox; "extract_features" in mocox.__all__; print({"torch", "numpy"} & set(sys.modules))'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip() == 'set()'
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mocox.nothing  # noqa: B018


def test_search_finds_the_nearest_by_cosine_but_not_the_query(folder, paths):
    features = mocox.extract_features(folder / 'official.pth.tar', paths, heads=4).astype(np.float64)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    settings = dict(heads=4, cache_dir=folder / 'cache', num_results=3)
    images, file = str(folder / 'images'), folder / 'official.pth.tar'
    found = search_images(paths[:2], images, file, **settings)
    save_picture(draw_grid(paths[:2], found), folder / 'grid.png')
    for query, pairs in enumerate(found):
        similarities = unit @ unit[query]
        expected = [i for i in np.argsort(-similarities) if i != query][:3]
        assert [value for _, value in pairs] == pytest.approx(similarities[expected].tolist(), abs=1e-5)
        assert str(paths[query]) not in [path for path, _ in pairs]
    with Image.open(folder / 'grid.png') as grid:
        assert grid.width > 4 * 96
        assert grid.height > 2 * 96


def test_search_tool(folder, paths, capsys):
    options = ['--heads', 4, '--out', folder / 'one.png', '--num-results', 2, '--cache-dir', folder / 'cache']
    file = folder / 'official.pth.tar'
    run_tool('search_images.py', paths[0], '--folder', folder / 'images', '--checkpoint', file, *options)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4] == str(paths[0])
    assert (folder / 'one.png').is_file()


def test_search_needs_enough_images(folder, paths):
    with pytest.raises(ValueError, match='has 8 images: at most 7 results'):
        search_images(paths[:1], str(folder / 'images'), folder / 'official.pth.tar', num_results=8, heads=4)
    with pytest.raises(ValueError, match='--num-results 0'):
        search_images(paths[:1], str(folder / 'images'), folder / 'official.pth.tar', num_results=0)
