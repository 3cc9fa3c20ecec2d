"""The picture of a schedule shows what the run will do: equal to a run's own log, and to the published formula."""

import json

import pytest
from mmengine.config import Config
from PIL import Image

from mocox.configs import find_config
from mocox.schedules import momentum_cosine, warmup_cosine
from mocox.visualize.schedule import schedule_of
from tests.support.tiny_run import run_tool, write_run


def test_what_is_drawn_is_what_a_run_logs(tmp_path, monkeypatch, capsys):
    path = write_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    schedule = schedule_of(Config.fromfile(path))
    run_tool('visualize.py', 'schedule', path, '--out', 'schedule.png')
    assert '12 iterations, 3 per epoch; learning rate 0 at first' in capsys.readouterr().out
    with Image.open('schedule.png') as picture:
        assert picture.format == 'PNG'
    run_tool('train.py', path, '--work-dir', 'run')
    (log,) = (tmp_path / 'run').glob('*/vis_data/scalars.json')
    steps = [entry for entry in map(json.loads, log.read_text().splitlines()) if 'loss' in entry]
    assert schedule.lr == pytest.approx([step['lr'] for step in steps], rel=1e-9)
    assert schedule.momentum == pytest.approx([step['momentum'] for step in steps], rel=1e-9)


def test_the_shipped_recipe_is_the_published_formula():
    schedule = schedule_of(Config.fromfile(find_config('mocov3/vit-small.py')), num_images=20_500, processes=8)
    steps = 20_500 // 1024
    assert schedule.steps_per_epoch == steps
    assert len(schedule.lr) == 300 * steps
    for step in (0, 1, 40 * steps, 4_321, 300 * steps - 1):
        assert schedule.lr[step] == pytest.approx(
            warmup_cosine(step, 6e-4, 40 * steps, 300 * steps), rel=1e-9, abs=1e-12
        )
        assert schedule.momentum[step] == pytest.approx(momentum_cosine(step / (300 * steps), 0.99), rel=1e-12)


def test_a_schedule_by_epochs():
    schedule = schedule_of(Config.fromfile(find_config('mocov2/resnet50_200e.py')), num_images=2_600, processes=8)
    rates = schedule.lr[:: schedule.steps_per_epoch]
    assert len(rates) == 200
    assert set(schedule.lr) == set(rates)  # constant within an epoch
    assert rates[:2] == pytest.approx([0.03, warmup_cosine(1, 0.03, 0, 200)])


def test_what_cannot_be_drawn():
    config = Config.fromfile(find_config('mocov3/vit-small.py'))
    with pytest.raises(ValueError, match=r'100 images are fewer than a batch of 128'):
        schedule_of(config, num_images=100)
    config.pop('train_cfg')
    with pytest.raises(ValueError, match='max_epochs'):
        schedule_of(config, num_images=1000)
