"""The contest on images of bars, with few steps: same images for all, an independent judge, honest bookkeeping."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lab.benchmark.mocox_contender import read_config
from lab.quality import run as running
from lab.quality.contest import compete
from lab.quality.contestants import OWN, Contestant, build_backbone, mocox_contestants, supervised
from lab.quality.images import Images, Labelled
from lab.quality.judge import finetune, judge
from lab.quality.maps import read
from lab.quality.peers import PEERS
from lab.quality.run import Contest, run
from lab.quality.sweep import Point, points_of, sweep
from lab.quality.sweep_figure import draw
from lab.quality.table import as_table
from tests.support.idx_files import write_idx_images

CONFIG = 'configs/mocov2/resnet18_fashion.py'


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp('bars')
    write_idx_images(folder, train=60, test=20)
    return str(folder)


def contest(data: str, **changes) -> Contest:
    tiny = Contest(data, CONFIG, train=40, held_out=20, first_held_out=40, batch=8, epochs=1, with_finetuning=False)
    return replace(tiny, **changes)


def test_all_of_ours_and_the_references(data, tmp_path, capsys):
    """One command trains them, writes a JSON each and the table; a second call trains nobody again."""
    names = ['random weights', 'raw pixels', 'supervised', *mocox_contestants({})]
    settings = dict(contestants=names, seeds=[0], test=False, held_out=20, first_held_out=40, no_finetuning=True)
    settings |= dict(cfg_options=None, config=CONFIG, train=20, batch=20, epochs=1, seconds=None, points=1)
    table = compete(data, str(tmp_path), **settings)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob('*.json')}
    assert len(files) == len(names) == 8
    assert all(f'| {name} | 1 |' in table for name in names)
    written = json.loads((tmp_path / 'mocox-v3_0.json').read_text())
    assert written['points'][0]['images'] == 20 and written['machine']['threads'] == 1
    assert json.loads((tmp_path / 'raw-pixels_0.json').read_text())['points'][0]['images'] == 0
    assert compete(data, str(tmp_path), **settings) == table
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob('*.json')} == files
    with pytest.raises(ValueError, match='of another contest: give another --out'):
        compete(data, str(tmp_path), **settings | dict(batch=10))
    with pytest.raises(ValueError, match='--contestants nobody: known are random weights, '):
        compete(data, str(tmp_path), **settings | dict(contestants=['nobody']))
    capsys.readouterr()


def test_each_with_what_its_authors_chose(data, tmp_path, monkeypatch, capsys):
    """``--own``: our recipe's views, width and reading of the map; a peer's views on the backbone of ``--config``."""
    seen = {}

    def record(settings, name, builder, *rest, **kwargs):
        config = read_config(settings.config, options=settings.options)
        seen[name] = config.train_dataloader.dataset.crops.scale, config.data_preprocessor.views[0].get('blur_prob')
        seen[name] += (config.model.backbone.type, builder(config, 20, 1).backbone(torch.zeros(2, 3, 28, 28)).shape[1])
        return {}

    monkeypatch.setattr('lab.quality.contest.run', record)
    settings = dict(seeds=[0], test=False, held_out=20, first_held_out=40, no_finetuning=True, config=CONFIG, own=True)
    settings |= dict(cfg_options={'model.backbone.base_channels': 4}, train=20, batch=20, epochs=1)
    compete(data, str(tmp_path), contestants=['mocox v3', 'mocox v2', 'mmpretrain v3'], **settings)
    assert seen == {
        'mocox v3': ((0.5, 1.0), 0.5, 'GridPooledResNet', 8 * 4 * 4),
        'mocox v2': ((0.4, 1.0), None, 'mmpretrain.ResNet_CIFAR', 8 * 4),
        'mmpretrain v3': ((0.2, 1.0), 0.5, 'mmpretrain.ResNet_CIFAR', 8 * 4),
    }
    capsys.readouterr()


def test_every_contestant_sees_the_same_views(data):
    config = read_config(CONFIG)
    first, second = (Images(config, data, 40, 20, 40, seed=3) for _ in range(2))
    for (ours, labels), (theirs, _) in itertools.islice(zip(first.views(16), second.views(16), strict=False), 3):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert [view.shape for view in ours] == [(16, 3, 28, 28)] * 2
        assert len(labels) == 16
    order = [label for _, labels in itertools.islice(first.views(40), 2) for label in labels.tolist()]
    assert sorted(order[:40]) == sorted(np.arange(40) % 10) and order[:40] != order[40:]


def test_the_images_to_test_on_are_others(data):
    """Held out from the end of the training images, or the test images; normalised as the views are."""
    config = read_config(CONFIG)
    held_out, test = (Images(config, data, 40, number, 40, seed=0).test for number in (20, None))
    raw = np.frombuffer(Path(data, 'train-images-idx3-ubyte').read_bytes()[16:], np.uint8).reshape(60, 28, 28)
    pixels = held_out.images[:, 0].numpy() * 90.02 + 72.94
    np.testing.assert_allclose(pixels, raw[40:60], atol=0.01)
    assert held_out.labels.tolist() == [i % 10 for i in range(40, 60)]
    assert len(test.images) == 20 and not torch.equal(test.images, held_out.images)
    with pytest.raises(ValueError, match='50 images to train on reach into those held out, which start at 40'):
        Images(config, data, 50, 10, 40, seed=0)


def test_the_judge():
    """By hand: 20 neighbours by angle, whatever their length; a linear rule that angles do not show."""
    angles = np.repeat([0.0, np.pi / 2], 30)
    train = np.stack([np.cos(angles), np.sin(angles)], 1) * np.linspace(1, 9, 60)[:, None]
    labels = np.repeat([0, 1], 30)
    test = np.array([[5.0, 0.1], [0.1, 0.2], [0.2, 0.1], [0.1, 7.0]])
    assert judge(train, test, labels, np.array([0, 1, 0, 1])) == dict(knn=100.0, linear=75.0)
    assert judge(train, test, labels, np.array([1, 1, 0, 1]))['knn'] == 75.0


def test_learning_rate_follows_the_schedule_of_the_contestant():
    fixed, free = (nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = torch.optim.SGD([dict(params=[fixed], fix_lr=True), dict(params=[free])], lr=9.0)
    contestant = Contestant(nn.Flatten(), optimizer, lambda views: 0.0, lr=0.4, warmup=0.25)
    seen = []
    for progress in (0, 0.125, 0.25, 0.625):
        running._set_lr(contestant, progress)
        seen.append([group['lr'] for group in optimizer.param_groups])
    assert seen == [[0.4, 0.0], [0.4, 0.2], [0.4, 0.4], [0.4, pytest.approx(0.2)]]
    contestant.decays = False
    running._set_lr(contestant, 0.9)
    assert optimizer.param_groups[1]['lr'] == 0.4


def idle(batches: list) -> Contestant:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.0)
    return Contestant(nn.Flatten(), optimizer, lambda views: float(len(batches.append(views) or batches)), 1.0)


def test_equal_seconds(data, tmp_path, monkeypatch):
    """A step of one second, by a clock that ticks when it is read: 7 seconds are 7 steps of 8 images."""
    ticks = itertools.count()
    monkeypatch.setattr(running.time, 'process_time', lambda: float(next(ticks)))
    result = run(contest(data, seconds=7.0, points=2), 'idle', lambda *_: idle([]), 0, tmp_path)
    assert [(point['images'], point['seconds']) for point in result['points']] == [(4 * 8, 4.0), (7 * 8, 7.0)]


def test_a_peer_that_does_not_run_is_named_with_its_error(data, tmp_path):
    def broken(*_):
        raise ImportError("No module named 'lightly'")

    result = run(contest(data), "lightly's example", broken, 0, tmp_path, is_ours=False)
    assert "lightly's example does not run: ImportError: No module named 'lightly'" in as_table([result])
    with pytest.raises(ImportError):
        run(contest(data), 'ours', broken, 0, tmp_path)


def test_mmpretrain_takes_part(data, tmp_path):
    result = run(contest(data, train=20, batch=20), 'mmpretrain v3', PEERS['mmpretrain v3'], 0, tmp_path, is_ours=False)
    assert 'error' not in result
    assert result['points'][-1]['images'] == 20
    assert 'neck.in_channels 128, published 2048' in result['remarks']


def test_few_labels(monkeypatch):
    """A linear layer on pixels, told 2 of each of 3 classes that differ in one pixel each, gets the others right."""
    monkeypatch.setattr('lab.quality.judge.FINETUNE_LR', 0.1)
    images = torch.zeros(60, 1, 2, 2)
    labels = np.arange(60) % 3
    images.flatten(1)[np.arange(60), labels] = 1
    labelled = Labelled(images, labels)
    assert finetune(nn.Flatten(), labelled, labelled, seed=0) == 100
    swapped = Labelled(images, np.array([1, 0, 2])[labels])  # what it is told, and not what it could guess
    assert finetune(nn.Flatten(), labelled, swapped, seed=0) == pytest.approx(100 / 3)


def test_supervision_uses_the_labels(data):
    """One batch, learned by heart."""
    config = read_config(CONFIG)
    views, labels = next(Images(config, data, 40, 20, 40, seed=0).views(10))
    contestant = supervised(config, 10, 20)
    for group in contestant.optimizer.param_groups:
        group['lr'] = 3e-3
    losses = [contestant.step([*views, labels]) for _ in range(12)]
    assert losses[-1] < 0.5 < np.log(10) - 0.5 < losses[0]


def test_backbones_start_equal():
    config = read_config(CONFIG)
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build_backbone(config).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_sweep_changes_one_setting_at_a_time(data, tmp_path, monkeypatch, capsys):
    """The values of the recipe share a folder; what is there is not trained again."""
    monkeypatch.setattr(
        'lab.quality.sweep.AXES', {'T': (('model.head.temperature',), (0.1, 0.5)), 'batch': ((), (20,))}
    )
    small = contest(data, train=20, batch=20, options={'model.backbone.base_channels': 4, 'model.queue_len': 20})
    table = sweep(small, ['T', 'batch'], [0], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {'recipe', 'T=0.5', 'sweep.md', 'sweep.png'}
    assert [line.split('|')[1:4] for line in table.splitlines()[2:]] == [
        [' T ', ' **0.1** ', ' 1 '], [' T ', ' 0.5 ', ' 1 '], [' batch ', ' **20** ', ' 1 '],
    ]  # fmt: skip
    (path,) = tmp_path.glob('T=0.5/*.json')
    written = json.loads(path.read_text())
    assert written['name'] == 'mocox v2' and written['contest']['options']['model.head.temperature'] == 0.5
    monkeypatch.setattr(running, '_train_and_judge', None)
    assert sweep(small, ['T', 'batch'], [0], tmp_path) == table
    with pytest.raises(ValueError, match="--sweep 'rate': known are 'T', 'batch'"):
        sweep(small, ['rate'], [0], tmp_path)
    capsys.readouterr()


def test_the_picture_of_a_sweep_has_a_panel_for_each_setting_and_no_other(tmp_path):
    results = [dict(points=[dict(knn=70.0 + seed, linear=75.0)]) for seed in range(2)]
    found = [(Point(f'setting {number}', '1', 'recipe', None, True), results) for number in range(5)]
    panels = [panel for panel in draw(found, tmp_path / 'sweep.png').axes if panel.axison]
    assert [panel.get_title() for panel in panels] == [f'setting {number}' for number in range(5)]
    assert panels[0].get_xticklabels()[0].get_text() == '1\n(recipe)'


def test_features_are_read_from_maps():
    """By hand: two stages, of which the last has half the side; a quarter is the mean of its places."""

    class Stages(nn.Module):
        def forward(self, x):
            return x, F.avg_pool2d(x, 2) + 100

    images = torch.arange(16.0).reshape(1, 1, 4, 4)
    quarters = [2.5, 4.5, 10.5, 12.5]
    assert read(Stages(), images, (-1,), 1).tolist() == [[107.5]]
    assert read(Stages(), images, (-2, -1), 2).tolist() == [[*quarters, *(100 + value for value in quarters)]]


def test_the_points_of_a_sweep():
    """A crop is named by its lower end; the batch is not an entry of the config."""
    point = {point.value: point for point in points_of('crops from', Contest('', CONFIG), read_config(CONFIG))}
    assert list(point) == ['0.08', '0.2', '0.4'] and [one.is_recipe for one in point.values()].count(True) == 1
    key = 'train_dataloader.dataset.crops.scale'
    assert point['0.08'].contest.options == {key: (0.08, 1.0)} and point['0.08'].folder == 'crops-from=0.08'
    batches = points_of('batch', Contest('', CONFIG), read_config(CONFIG))
    assert [(one.contest.batch, one.contest.options, one.is_recipe) for one in batches[:2]] == [
        (64, {}, False), (128, {}, True),
    ]  # fmt: skip
    views = points_of('flips', Contest('', CONFIG), read_config(CONFIG))[0].contest.options
    assert [view.flip_prob for view in read_config(CONFIG, options=views).data_preprocessor.views] == [0.0, 0.0]
    jitters = points_of('jitter', Contest('', CONFIG), read_config(CONFIG))
    assert [(one.value, one.is_recipe) for one in jitters] == [('0.0', False), ('0.4', True), ('0.8', False)]
    strong = read_config(CONFIG, options=jitters[2].contest.options).data_preprocessor.views
    assert [view.color_jitter for view in strong] == [dict(brightness=0.8, contrast=0.8)] * 2
    grids = points_of('grid', Contest('', OWN['mocox v3']), read_config(OWN['mocox v3']))
    assert [(one.value, one.is_recipe) for one in grids] == [('1', False), ('2', True)]


def test_a_value_that_the_recipe_leaves_to_its_class_is_the_recipes_own():
    assert 'blur_prob' not in read_config(CONFIG).data_preprocessor.views[0]
    none, half = points_of('blur', Contest('', CONFIG), read_config(CONFIG))
    assert none.folder == 'recipe' and not half.is_recipe
    vit = 'configs/mocov3/vit-small.py'
    with pytest.raises(ValueError, match=r'the recipe has no model\.backbone\.norm_cfg to set group_size of'):
        points_of('images of a BatchNorm', Contest('', vit), read_config(vit))


def test_table_has_means_and_spreads():
    def result(seed, knn, seconds):
        return dict(
            name='a', seed=seed, points=[dict(images=1000, seconds=seconds, knn=knn, linear=80.0)], finetuned=50
        )

    assert '| a | 2 | 1,000 | 15 | 72.0 ± 2.8 | 80.0 ± 0.0 | 50.0 ± 0.0 | 67 |' in as_table(
        [result(0, 70.0, 10.0), result(1, 74.0, 20.0)]
    )
