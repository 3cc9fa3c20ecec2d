"""The demo: its images, a short run from the command line, and (on request) the full run with its accuracies."""

import dataclasses
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from sklearn.datasets import load_digits

from mocox import demo
from mocox.demo import DIGITS, FASHION, write_digits
from tests.support.idx_files import write_idx_images
from tests.support.tiny_run import ROOT, run_tool


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    """The folder of images."""
    folder = tmp_path_factory.mktemp('digits')
    write_digits(folder)
    return folder


def test_digits_are_those_of_scikit_learn(digits):
    source = load_digits()
    files = {int(path.stem): path for path in digits.rglob('*.png')}
    assert sorted(files) == list(range(1797))  # each once: no image is in both parts
    for index, path in files.items():
        assert path.parent.name == str(source.target[index])
    for index in (0, 1000, 1796):
        with Image.open(files[index]) as image:
            np.testing.assert_allclose(np.asarray(image) * (16 / 255), source.images[index], atol=0.5 * 16 / 255)


def test_split_is_stratified_and_fixed(digits, tmp_path):
    of_class = {part: Counter(path.parent.name for path in digits.glob(f'{part}/*/*')) for part in ('train', 'test')}
    assert sum(of_class['train'].values()) == 1437
    assert sum(of_class['test'].values()) == 360
    for label, total in Counter(map(str, load_digits().target)).items():
        assert of_class['test'][label] == pytest.approx(total * 360 / 1797, abs=1)
    write_digits(tmp_path)
    names = [sorted(path.relative_to(folder) for path in folder.rglob('*.png')) for folder in (digits, tmp_path)]
    assert names[0] == names[1]


@pytest.fixture(scope='module')
def short_run(tmp_path_factory):
    """A run of one epoch in a folder of its own; returns that folder."""
    folder = tmp_path_factory.mktemp('demo')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run_demo('--epochs', 1, '--seed', 3) == 0
    return folder


def run_demo(*arguments: object) -> int:
    """The exit code of ``tools/demo.py``."""
    threads = torch.get_num_threads()
    with pytest.raises(SystemExit) as exit_info:
        run_tool('demo.py', *arguments)
    torch.set_num_threads(threads)
    return exit_info.value.code


def test_results_hold_accuracies_and_where_they_are_from(short_run):
    results = json.loads((short_run / 'work_dirs/demo/results.json').read_text())
    accuracies = [results[name] for name in ('knn_random', 'knn', 'linear_random', 'linear')]
    assert all(0 <= accuracy <= 1 for accuracy in accuracies)
    # Counts of 360 images, to 4 digits; neighbours in any features of digits beat guessing.
    assert all(accuracy == round(round(accuracy * 360) / 360, 4) for accuracy in accuracies)
    assert results['knn_random'] > 0.3
    assert results['seconds'] > 0
    assert (results['seed'], results['epochs']) == (3, 1)
    page = (short_run / 'work_dirs/demo/report.html').read_text()
    assert f'<td>{results["knn_random"]:.1%}</td><td>{results["knn"]:.1%}</td>' in page
    assert results['versions']['torch'].split('+')[0] == torch.__version__.split('+')[0]


def test_report_is_a_picture(short_run):
    with Image.open(short_run / 'work_dirs/demo/report.png') as report:
        assert report.format == 'PNG'
        assert min(report.size) > 600
        levels = np.asarray(report.convert('RGB'))
    assert len(np.unique(levels.reshape(-1, 3), axis=0)) > 100


def test_pretraining_saw_no_labels(short_run):
    config = Config.fromfile(short_run / 'work_dirs/demo/pretraining/vit-tiny_digits.py')
    dataset = config.train_dataloader.dataset
    assert dataset.type == 'ImageFiles'
    assert not dataset.get('with_labels', False)
    assert dataset.data_prefix == 'train'
    assert config.randomness.seed == 3 and 'seed' not in dataset  # so SetupHook hands the run's over
    assert 'val_dataloader' not in config


def test_linear_evaluation_starts_from_the_pretrained_backbone(short_run):
    folder = short_run / 'work_dirs/demo'
    states = [
        torch.load(folder / name / 'epoch_1.pth', weights_only=True)['state_dict']
        for name in ('pretraining', 'linear', 'linear_random')
    ]
    names = [name for name in states[0] if name.startswith('backbone.')]
    assert all(torch.equal(states[0][name], states[1][name]) for name in names)
    assert not all(torch.equal(states[0][name], states[2][name]) for name in names)


def test_fashion_is_shown_where_it_is_installed(tmp_path, monkeypatch, capsys):
    write_idx_images(tmp_path / 'idx', train=256, test=40)
    few = {'train_dataloader.dataset.part': (0, 256)}
    monkeypatch.setattr(demo, 'FASHION', dataclasses.replace(FASHION, num_train=256, num_test=40, options=few))
    monkeypatch.chdir(tmp_path)
    assert run_demo('--fashion', tmp_path / 'idx', '--epochs', 1) == 0
    results = json.loads((tmp_path / 'work_dirs/demo/results.json').read_text())
    assert all(results[name] == round(round(results[name] * 40) / 40, 4) for name in ('knn', 'linear', 'knn_random'))
    assert 'Accuracy on the 40 test images' in capsys.readouterr().out
    assert not (tmp_path / 'data').exists()  # no digits were written


def test_without_fashion_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='package dataset-fashion-mnist of Debian'):
        demo.run(fashion='empty')


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get('MOCOX_FULL_DEMO') != '1', reason='takes minutes; MOCOX_FULL_DEMO=1 runs it')
def test_full_demo_reaches_its_accuracies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_demo() == 0
    results = json.loads((tmp_path / 'work_dirs/demo/results.json').read_text())
    assert all(results[name] >= target for name, target in DIGITS.targets.items())
    assert results['knn'] > results['knn_random'] + 0.1


def test_tool_says_what_it_does(capsys):
    with pytest.raises(SystemExit):
        run_tool('demo.py', '--help')
    assert '--work-dir' in capsys.readouterr().out
    assert len(Path(ROOT, 'tools/demo.py').read_text().splitlines()) < 80
