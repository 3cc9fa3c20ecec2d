"""Features of a folder of images: in order, with labels, from a model in evaluation mode that stays as it was."""

import stat
import time

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from PIL import Image
from torch.utils.data import DataLoader

from mocox import dist
from mocox.datasets import ImageFiles, collate_views
from mocox.evaluation import extract_from_loader
from mocox.evaluation.features import cached_features
from mocox.evaluation.sealed import read_sealed, user_key, write_sealed
from mocox.registry import MODELS
from tests.support.processes import run_processes

MEAN, STD = [100.0, 110.0, 120.0], [50.0, 55.0, 60.0]


@pytest.fixture
def folder(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    for number, image in enumerate(levels):
        path = tmp_path / 'ab'[number % 2] / f'{number}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path


def make_loader(folder, with_labels):
    dataset = ImageFiles(str(folder), dict(type='CenterCrop', size=8, resize=8), with_labels=with_labels)
    return DataLoader(dataset, batch_size=2, collate_fn=collate_views)


def build(kind):
    arch = dict(embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=16)
    backbone = dict(type='MoCoViT', arch=arch, img_size=8, patch_size=4, stem='conv', drop_path_rate=0.5)
    mlp = dict(type='NonLinearNeck', hid_channels=8, out_channels=8, with_avg_pool=False)
    parts = dict(
        MoCoV3=dict(
            neck=dict(mlp, in_channels=8),
            head=dict(type='ContrastiveHead', predictor=dict(mlp, in_channels=8)),
            data_preprocessor=dict(type='ViewsPreprocessor', mean=MEAN, std=STD, views=[{}, {}]),
        ),
        LinearProbe=dict(
            head=dict(type='LinearClsHead', _scope_='mmpretrain', num_classes=2, in_channels=8),
            data_preprocessor=dict(type='LabelledPreprocessor', mean=MEAN, std=STD),
        ),
    )
    with DefaultScope.overwrite_default_scope('mocox'):
        return MODELS.build(dict(type=kind, backbone=backbone, **parts[kind]))


@pytest.mark.parametrize('kind', ['MoCoV3', 'LinearProbe'])
def test_features_are_those_of_the_backbone_in_evaluation_mode(folder, kind):
    model = build(kind)
    features, labels = extract_from_loader(model, make_loader(folder, with_labels=True))

    paths = sorted(folder.rglob('*.png'))  # the order of ImageFiles
    images = np.stack([np.asarray(Image.open(path)) for path in paths]).astype(np.float32)
    inputs = torch.from_numpy((images - np.float32(MEAN)) / np.float32(STD)).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = model.backbone.eval()(inputs)[-1]
    torch.testing.assert_close(features, expected)
    assert labels.tolist() == ['ab'.index(path.parent.name) for path in paths]


@pytest.mark.parametrize('training', [True, False])
def test_model_stays_as_it_was(folder, training):
    model = build('MoCoV3').train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    features, labels = extract_from_loader(model, make_loader(folder, with_labels=False))
    assert labels is None
    assert not features.requires_grad
    assert model.training is training
    assert model.backbone.training is training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.fixture
def state(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp('state')
    monkeypatch.setenv('XDG_STATE_HOME', str(folder))
    return folder


def again(folder, capsys):
    """The features of five images in shards of two, and what was printed about the files."""
    dataset = make_loader(folder, with_labels=True).dataset
    capsys.readouterr()
    found = cached_features(build_once(), dataset, folder / 'cache', shard_images=2)
    return found, [line for line in capsys.readouterr().out.splitlines() if 'computed again' in line]


def forge(file, key):
    """Random numbers of the right shape in place of the features."""
    write_sealed(file, dict(read_sealed(file, user_key()), features=torch.randn(2, 8)), key)


CHANGES = {
    'cut': lambda file, other: file.write_bytes(file.read_bytes()[:-40]),
    'empty': lambda file, other: file.write_bytes(b''),
    'a flipped bit': lambda file, other: file.write_bytes(file.read_bytes()[:-60] + b'\1' + file.read_bytes()[-59:]),
    'other numbers': lambda file, other: forge(file, bytes(32)),
    'another shard': lambda file, other: file.write_bytes(other.read_bytes()),
}


@pytest.mark.parametrize('change', CHANGES)
def test_a_shard_that_is_damaged_or_foreign_is_computed_again(folder, state, capsys, change):
    first, lines = again(folder, capsys)
    file, other = folder / 'cache' / '000000000.features', folder / 'cache' / '000000002.features'
    assert not lines
    CHANGES[change](file, other)
    second, lines = again(folder, capsys)
    assert len(lines) == 1
    assert repr(str(file)) in lines[0]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert again(folder, capsys)[1] == []


def test_nobody_else_reads_the_key_or_the_features(folder, state, capsys):
    again(folder, capsys)
    key = state / 'mocox' / 'features.key'
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / 'cache').stat().st_mode) == 0o700
    assert again(folder, capsys)[1] == []  # with the same key
    before = key.read_bytes()
    key.chmod(0o644)  # whoever has read it can write shards
    assert len(again(folder, capsys)[1]) == 3
    assert key.read_bytes() != before


def test_a_link_in_place_of_the_folder_is_refused(folder, capsys, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp('public')
    elsewhere.chmod(0o755)
    (folder / 'cache').symlink_to(elsewhere)
    with pytest.raises(ValueError, match='is a link, not a folder of features'):
        again(folder, capsys)
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o755
    assert not list(elsewhere.iterdir())


def test_without_a_place_for_the_key_nothing_is_found_again(folder, state, capsys, monkeypatch):
    monkeypatch.setenv('XDG_STATE_HOME', '/dev/null')
    first, _ = again(folder, capsys)
    second, lines = again(folder, capsys)
    assert len(lines) == 3
    assert torch.equal(first.features, second.features)


@pytest.mark.dist
@pytest.mark.parametrize('late', [0, 1])
def test_nobody_reads_what_a_late_process_has_not_written(folder, tmp_path, late):
    """Five shards of one image: a process that is late looks late, when the other may have written, and writes late."""
    everything = run_processes(features_of_a_late_process, 2, folder, tmp_path / 'cache', late)
    expected, _ = extract_from_loader(build_once(), make_loader(folder, with_labels=False))
    for features in everything:
        torch.testing.assert_close(features, expected)
    assert len(list((tmp_path / 'cache').glob('*.features'))) == 5


def features_of_a_late_process(folder, cache, late):
    dataset = make_loader(folder, with_labels=False).dataset
    if dist.rank() == late:
        time.sleep(0.5)
        load = dataset.load
        dataset.load = lambda index: (time.sleep(0.3), load(index))[1]
    features, _, _ = cached_features(build_once(), dataset, cache, shard_images=1)
    return features


def build_once():
    torch.manual_seed(0)
    return build('MoCoV3')
