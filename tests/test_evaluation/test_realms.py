"""Several data sets at once, laid out as OmniBenchmark is: a folder for each realm, with lists of its own images."""

import json
from pathlib import Path

import pytest
import torch

import mocox
from mocox.datasets.lists import find_lists
from mocox.evaluation.data import open_data
from mocox.evaluation.pipeline import evaluate
from mocox.evaluation.realms import evaluate_realms, find_realms
from tests.test_checkpoint.conftest import VIT, official_file
from tests.test_evaluation.images import LEVELS, write_images

CROPS = dict(type='CenterCrop', size=32, resize=32)


def write_realm(folder: Path, labels: dict[str, int], tests=('test.txt', 'val.txt')) -> None:
    """Images and their lists, as they are published: paths from the realm, labels that do not begin at 0."""
    write_images(folder, side=32, train=(6, 6), test=(3, 2))
    for name in ('train', *(test.removesuffix('.txt') for test in tests)):
        files = sorted((folder / ('train' if name == 'train' else 'test')).rglob('*.png'))
        lines = [f'{file.relative_to(folder)} {labels[file.parent.name]}\n' for file in files]
        (folder / f'{name}.txt').write_text(''.join(lines))


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('omnibenchmark')
    write_realm(root / 'meta' / 'aircraft', dict(bright=9, dark=4))
    write_realm(root / 'meta' / 'bird', dict(bright=3, dark=0), tests=('val.txt',))
    torch.manual_seed(0)
    official_file(root / 'vit.pth.tar', VIT)
    return root


def test_lists_are_found_and_the_test_list_is_preferred(root):
    assert find_lists(str(root / 'meta' / 'aircraft')) == ('train.txt', ('test.txt', 'val.txt'))
    assert find_lists(str(root / 'meta' / 'bird')) == ('train.txt', ('val.txt',))
    assert find_lists(str(root / 'meta')) is None
    assert find_realms(str(root / 'meta')) == ['aircraft', 'bird']


def test_a_hidden_folder_is_not_a_realm(tmp_path):
    for name in ('aircraft', 'bird', '.ipynb_checkpoints'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'a.png').touch()
        for split in ('train', 'test'):
            (tmp_path / name / f'{split}.txt').write_text('a.png 0\n')
    assert find_realms(tmp_path) == ['aircraft', 'bird']


def test_labels_are_those_of_the_lists(root):
    data = open_data(str(root / 'meta' / 'aircraft'), CROPS)
    assert (len(data.train), len(data.test), data.num_classes) == (12, 5, 10)
    assert {*data.train.labels.tolist()} == {9, 4} == {*data.test.labels.tolist()}
    assert len(open_data(str(root / 'meta' / 'aircraft'), CROPS, test_split='val').test) == 5


def test_lists_with_the_paths_of_another_folder_do_not_count(tmp_path):
    """Caffe's lists of ImageNet lie beside ``train`` and ``val`` and begin inside of these."""
    write_images(tmp_path, train=(3, 3), val=(2, 2))
    for split in ('train', 'val'):
        (tmp_path / f'{split}.txt').write_text(''.join(f'{name}/0.png {i}\n' for i, name in enumerate([*LEVELS][:2])))
    assert find_lists(str(tmp_path)) is None
    assert open_data(str(tmp_path), CROPS).name.startswith('train and val in ')


def test_each_realm_and_the_average(root, tmp_path, capsys):
    """From Python as from the command line, which calls the same function."""
    settings = dict(heads=4, device='cpu', cache_dir=tmp_path / 'cache')
    found = mocox.evaluate(root / 'vit.pth.tar', root / 'meta', work_dir=tmp_path / 'out', **settings)
    assert json.loads((tmp_path / 'out' / 'average.json').read_text()) == found
    for realm in ('aircraft', 'bird'):
        alone = evaluate(
            root / 'vit.pth.tar', str(root / 'meta' / realm), ['logreg'], work_dir=tmp_path / realm, **settings
        )
        assert found['realms'][realm] == {'logreg': alone['results'][0]['value']}
    values = [found['realms'][realm]['logreg'] for realm in ('aircraft', 'bird')]
    assert found['average'] == {'logreg': round(sum(values) / 2, 2)}
    assert f'average of 2 realms  {found["average"]["logreg"]:6.2f}' in capsys.readouterr().out


def test_a_realm_that_cannot_be_judged_is_named(root, tmp_path):
    write_realm(tmp_path / 'activity', dict(bright=1, dark=1))
    with pytest.raises(ValueError, match='realm activity: .*all of one class'):
        evaluate_realms(
            root / 'vit.pth.tar', str(tmp_path), ['activity'], work_dir=tmp_path / 'out', heads=4, device='cpu',
            cache_dir=tmp_path / 'cache',
        )  # fmt: skip
