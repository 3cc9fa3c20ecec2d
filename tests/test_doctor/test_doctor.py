"""The tool on real files: what it counts, what it measures, its exit code and its JSON."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mocox.datasets import ImageFiles, WebDatasetImages
from mocox.doctor.findings import count
from mocox.doctor.images import check_images, look_at
from mocox.doctor.speed import Speed, _extrapolate, _saved_bytes, check_speed
from tests.support.shards import write_shard
from tests.support.tiny_run import run_tool, write_run


@pytest.fixture
def folder(tmp_path):
    """30 images: 20 in colour, 6 gray, 1 a copy, 2 damaged, 1 with transparency."""
    rng = np.random.default_rng(0)
    for index in range(20):
        Image.fromarray(rng.integers(0, 256, (40, 50 + index, 3), dtype=np.uint8)).save(tmp_path / f'{index:02}.png')
    for index in range(20, 26):
        Image.fromarray(rng.integers(0, 256, (30, 30), dtype=np.uint8)).save(tmp_path / f'{index}.png')
    (tmp_path / '26.png').write_bytes((tmp_path / '03.png').read_bytes())
    (tmp_path / '27.png').write_bytes(b'\x89PNG\r\n\x1a\nnothing')
    (tmp_path / '28.jpg').write_bytes(b'')
    Image.fromarray(rng.integers(0, 256, (40, 40, 4), dtype=np.uint8)).save(tmp_path / '29.png')
    return tmp_path


def test_images_are_counted_by_size_mode_and_damage(folder):
    sample = look_at(ImageFiles(str(folder), dict(type='RandomResizedCrops', size=32)), 1000)
    assert (sample.total, sample.looked_at, len(sample.sizes)) == (30, 30, 28)
    assert sample.modes == {'RGB': 21, 'L': 6, 'RGBA': 1}
    assert sample.gray == 6
    assert {path.rsplit('/')[-1] for path, _ in sample.unreadable} == {'27.png', '28.jpg'}
    assert [[path.rsplit('/')[-1] for path in group] for group in sample.twice] == [['03.png', '26.png']]
    assert (50, 40) in sample.sizes and (69, 40) in sample.sizes
    found = {finding.check: finding for finding in check_images(sample, 32, jitters=True)}
    assert found['unreadable_images'].level == 'problem'  # 2 of 30, more than 5 %
    assert found['duplicates'].level == 'note'
    assert 'small_images' not in found and 'gray_images' not in found


def test_small_and_gray_images_are_named(folder):
    for path in [*folder.glob('[01]*.png'), *folder.glob('2[6789]*')]:
        path.unlink()
    sample = look_at(ImageFiles(str(folder), dict(type='RandomResizedCrops', size=224)), 1000)
    assert {finding.check for finding in check_images(sample, 224, jitters=True)} == {'small_images', 'gray_images'}
    assert {finding.check for finding in check_images(sample, 60, jitters=False)} == set()


def speed(**changes) -> Speed:
    values = dict(
        device='CPU', cores=8, load_per_worker=100.0, step=500.0, step_images=64, workers=2, loading=200.0,
        bottleneck='loader', suggested_workers=6, images_per_second=200.0, hours=1.0, memory_mb=1000.0, parameters=1,
    )  # fmt: skip
    return Speed(**values | changes)


def test_a_slow_loader_is_named_with_the_workers_it_needs():
    (finding,) = check_speed(speed())
    assert finding.check == 'loader_too_slow' and finding.fix.endswith('num_workers=6')
    (finding,) = check_speed(speed(workers=8, suggested_workers=8, loading=300.0))
    assert finding.check == 'too_few_cores'
    (finding,) = check_speed(speed(workers=9, bottleneck='step'))
    assert finding.check == 'too_many_workers'
    assert check_speed(speed(bottleneck='step', loading=600.0)) == []


def test_a_step_that_does_not_fit_is_a_problem():
    (finding,) = check_speed(speed(bottleneck='step'), free_mb=999.0)
    assert (finding.level, finding.check) == ('problem', 'memory') and 'chunk_size' in finding.fix
    assert 'chunk_size' not in check_speed(speed(bottleneck='step'), 999.0, is_vit=False)[0].fix
    assert check_speed(speed(bottleneck='step'), free_mb=1001.0) == []


def test_seconds_of_a_large_step_follow_from_small_ones():
    assert _extrapolate({2: 1.2, 4: 1.4}, 64) == pytest.approx(1.0 + 0.1 * 64)  # 1 s for any batch, 0.1 per image
    assert _extrapolate({2: 1.2, 4: 1.4}, 4) == 1.4
    assert _extrapolate({2: 1.0}, 10) == 5.0


def test_memory_counts_what_autograd_keeps_but_no_weights():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(7))
            self.data_preprocessor = lambda data, training: dict(inputs=torch.ones(3, 7, requires_grad=True))

        def forward(self, inputs, mode):
            return dict(loss=(inputs * self.weight).exp().sum())

    sample = dict(inputs=[torch.zeros(3, 4, 4, dtype=torch.uint8)], index=0)
    assert _saved_bytes(Model(), [sample] * 2) == (2 * 3 * 7 * 4, 2)  # the product's input, and the exponential


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('doctor')
    return write_run(folder)


def test_the_tool_says_what_to_expect_and_writes_json(run, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        run_tool('doctor.py', run, '--json', tmp_path / 'out.json', '--seconds', '0.2')
    assert ended.value.code == 0
    out = capsys.readouterr().out
    found = json.loads((tmp_path / 'out.json').read_text())
    assert found['exit_code'] == 0
    assert found['images']['total'] == 24 and found['images']['modes'] == {'RGB': 24}
    assert found['images']['shorter_side'] == dict(min=40, median=40, max=40)
    assert found['facts']['batch'] == '1 x 8 = 8 images; 3 steps per epoch'
    assert found['facts']['learning rate'] == '0.00313 = 0.1 x 8 / 256'
    assert found['facts']['chance level'].startswith('1.66 nats')  # 4 x 0.2 x ln 8
    assert found['speed']['step'] > 0 and found['speed']['load_per_worker'] > 0
    assert found['speed']['hours'] == pytest.approx(24 * 4 / found['speed']['images_per_second'] / 3600)
    assert {'batch_of_v3', 'lr_of_another_optimizer'} <= {finding['check'] for finding in found['findings']}
    assert all(finding['title'] in out for finding in found['findings'])


def test_a_run_that_cannot_start_leaves_json_too(run, tmp_path):
    (tmp_path / 'out.json').write_text('{"exit_code": 0}')  # of an earlier run
    with pytest.raises(SystemExit) as ended:
        run_tool('doctor.py', run, '--json', tmp_path / 'out.json', '--data-root', tmp_path)
    assert ended.value.code == 1
    found = json.loads((tmp_path / 'out.json').read_text())
    assert found['exit_code'] == 1 and 'no images in' in found['error']


def test_numbers_agree_with_their_nouns():
    assert [count(number, 'step') for number in (0, 1, 2, 1000)] == ['0 steps', '1 step', '2 steps', '1,000 steps']


def test_a_problem_gives_exit_code_1(run, capsys):
    with pytest.raises(SystemExit) as ended:
        run_tool('doctor.py', run, '--gpus', '4', '--seconds', '0')
    assert ended.value.code == 1
    assert 'problem: 24 images, and 32 in a batch' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--data-root', '/nowhere'], '--data-root: there is no folder /nowhere'),
        (['--gpus', '0'], 'processes=0'),
        (['--cfg-options', 'train_dataloader.dataset.type=Nothing'], 'Nothing'),
    ],
)
def test_a_wrong_argument_is_named(run, capsys, arguments, words):
    with pytest.raises(SystemExit) as ended:
        run_tool('doctor.py', run, *arguments)
    assert ended.value.code == 1
    assert words in capsys.readouterr().err


def test_images_in_a_shard_are_read_from_the_shard(folder):
    """As files would be: they were called unreadable, because a member of an archive is not a file."""
    members = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    write_shard(folder / 'shards' / 'a.tar', members)
    crops = dict(type='RandomResizedCrops', size=32)
    sample = look_at(WebDatasetImages(str(folder / 'shards'), crops, shards='a.tar'), 1000)
    expected = look_at(ImageFiles(str(folder), crops), 1000)
    assert (sample.sizes, sample.modes) == (expected.sizes, expected.modes)
    assert [path.rsplit('/')[-1] for path, _ in sample.unreadable] == ['27.png', '28.jpg']
