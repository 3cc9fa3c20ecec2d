"""Predictions are those of the model that was tested, images cut as in its test."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mocox
from mocox.__main__ import main
from mocox.checkpoint import convert
from mocox.configs import open_config
from mocox.registry import MODELS, TRANSFORMS
from tests.test_checkpoint.conftest import ARCH, perturbed

CONFIG = """
model = dict(type='LinearProbe',
             backbone=dict(type='MoCoViT', arch={arch}, img_size=32, patch_size=8),
             head=dict(type='LinearClsHead', _scope_='mmpretrain', num_classes=3, in_channels=32))
data_preprocessor = dict(type='LabelledPreprocessor', mean=[100.0, 110.0, 120.0], std=[50.0, 60.0, 70.0])
train_dataloader = dict(dataset=dict(type='ImageFiles', with_labels=True,
                                     crops=dict(type='RandomResizedCrops', size=32)))
test_dataloader = dict(dataset=dict(type='ImageFiles', with_labels=True,
                                    crops=dict(type='CenterCrop', size=32, resize=48, interpolation='bicubic')))
"""
NAMES = ('ant', 'bee', 'cat')


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A checkpoint as MMEngine's Runner writes one after a linear evaluation, its model, and images of any size."""
    folder = tmp_path_factory.mktemp('predict')
    (folder / 'probe.py').write_text(CONFIG.format(arch=ARCH))
    config = open_config(folder / 'probe.py')
    torch.manual_seed(0)
    model = perturbed(MODELS.build({**config.model, 'data_preprocessor': config.data_preprocessor}))
    write(folder / 'probe.pth', model, config, dict(classes=NAMES))
    (folder / 'images' / 'deep').mkdir(parents=True)
    generator = np.random.default_rng(0)
    for index, name in enumerate(('a.png', 'b.png', 'deep/c.png')):
        pixels = generator.integers(0, 256, (40 + index, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / 'images' / name)
    (folder / 'images' / 'broken.png').write_bytes(b'no image')
    return folder, model, config


def write(path: Path, model, config, dataset_meta: dict) -> None:
    meta = dict(cfg=config.pretty_text, epoch=1, iter=1, experiment_name='probe', dataset_meta=dataset_meta)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)


@torch.no_grad()
def oracle(folder: Path, model, config, paths) -> np.ndarray:
    """The model itself, through its own transform and MMEngine's entry."""
    crops = TRANSFORMS.build(config.test_dataloader.dataset.crops)
    views = [crops(np.asarray(Image.open(path)), None)[0] for path in paths]
    mean, std = (torch.tensor(config.data_preprocessor[key]).view(-1, 1, 1) for key in ('mean', 'std'))
    return model((torch.stack(views).float() - mean) / std).softmax(1).numpy()


def test_probabilities_are_those_of_the_tested_model(made):
    folder, model, config = made
    found = mocox.predict(folder / 'probe.pth', folder / 'images')
    assert found.paths == [str(folder / 'images' / name) for name in ('a.png', 'b.png', 'deep/c.png')]
    assert found.classes == list(NAMES)
    assert found.unreadable == [str(folder / 'images' / 'broken.png')]
    np.testing.assert_allclose(found.probabilities, oracle(folder, model, config, found.paths), atol=1e-6)
    assert found.top(1)[0] == [(NAMES[found.probabilities[0].argmax()], pytest.approx(found.probabilities[0].max()))]


def test_the_command_writes_a_table(made, tmp_path, capsys):
    folder, *_ = made
    out = tmp_path / 'table.csv'
    main(['predict', str(folder / 'probe.pth'), str(folder / 'images'), '--out', str(out), '--top-k', '9'])
    shown = capsys.readouterr().out
    assert 'broken.png' in shown and f'{out}: 3 images, 3 classes' in shown
    rows = list(csv.reader(out.open(newline='')))
    assert rows[0] == ['path', 'class', 'probability', 'class_2', 'probability_2', 'class_3', 'probability_3']
    found = mocox.predict(folder / 'probe.pth', folder / 'images')
    assert [row[0] for row in rows[1:]] == found.paths
    for row, probabilities in zip(rows[1:], found.probabilities):
        order = np.argsort(-probabilities)
        assert row[1::2] == [NAMES[label] for label in order]
        np.testing.assert_allclose(np.array(row[2::2], float), probabilities[order], atol=1e-6)


def test_a_file_without_names_gives_numbers_and_says_so(made, tmp_path, capsys):
    folder, model, config = made
    write(tmp_path / 'old.pth', model, config, {})
    main(['predict', str(tmp_path / 'old.pth'), str(folder / 'images'), '--out', str(tmp_path / 'p.csv')])
    assert 'does not name its 3 classes' in capsys.readouterr().out
    assert mocox.predict(tmp_path / 'old.pth', folder / 'images').classes == ['0', '1', '2']


def test_a_converted_file_predicts_the_same(made, tmp_path):
    folder, *_ = made
    convert(folder / 'probe.pth', tmp_path / 'small.safetensors', 'timm')
    ours, theirs = (
        mocox.predict(path, folder / 'images') for path in (folder / 'probe.pth', tmp_path / 'small.safetensors')
    )
    assert theirs.classes == list(NAMES)
    np.testing.assert_array_equal(ours.probabilities, theirs.probabilities)


def test_what_predicts_nothing_is_refused(made, tmp_path):
    folder, model, _ = made
    backbone = {key: value for key, value in model.state_dict().items() if key.startswith('backbone.')}
    torch.save(dict(state_dict=backbone), tmp_path / 'plain.pth')
    with pytest.raises(ValueError, match='has no classifier'):
        mocox.predict(tmp_path / 'plain.pth', folder / 'images', heads=4)
    with pytest.raises(ValueError, match=r'written as \.csv'):
        mocox.predict(folder / 'probe.pth', folder / 'images', out=tmp_path / 'p.xlsx')
    with pytest.raises(FileNotFoundError, match='no image or folder'):
        mocox.predict(folder / 'probe.pth', folder / 'nothing')
