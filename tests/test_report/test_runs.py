"""Reading work dirs: also old, resumed, moved, damaged and half-written ones."""

import json
import math
import os

import pytest

from mocox.report.page import render
from mocox.report.pictures import Pictures
from mocox.report.runs import name_runs, read_run
from mocox.report.scalars import read_json_lines
from tests.test_report.work_dirs import CHANCE, FLOOR, STAMP, write_work_dir


def test_a_log_without_monitors_gets_chance_floor_progress_and_speed(tmp_path):
    run = read_run(write_work_dir(tmp_path / 'work', monitored=False))
    assert run.scalars['chance'].last == pytest.approx(CHANCE)
    assert run.scalars['floor'].last == pytest.approx(FLOOR)
    loss = run.scalars['loss'].values[50]
    assert run.scalars['progress'].values[50] == pytest.approx(100 * (CHANCE - loss) / (CHANCE - FLOOR))
    assert run.scalars['images_per_second'].values[3] == pytest.approx(256 / run.scalars['time'].values[3])
    assert run.scalars['data_wait'].values[3] == pytest.approx(4 / run.scalars['time'].values[3])
    assert (run.num_iters, run.epoch, run.max_epochs, run.epoch_length) == (4000, 40, 40, 100)
    assert run.finished
    assert run.warnings == ['12:30:00 unreadable image']


def test_what_the_monitors_logged_is_not_computed_anew(tmp_path):
    run = read_run(write_work_dir(tmp_path / 'work'))
    assert set(run.scalars['images_per_second'].values) == {500.0}
    assert [event['kind'] for event in run.events] == ['state', 'state', 'spike', 'spike']


def test_held_out_images_count_where_they_were_measured(tmp_path):
    folder = write_work_dir(tmp_path / 'work', lines=150)
    path = folder / STAMP / 'vis_data' / 'scalars.json'
    measured = [dict(knn_offline=value, step=step) for step, value in ((1000, 40.0), (2000, 40.0), (3000, 45.0))]
    path.write_text(path.read_text() + ''.join(json.dumps(line) + '\n' for line in measured))
    offline = read_run(folder).scalars['knn_offline']
    assert (offline.iters, offline.values) == ([1000, 2000, 3000], [40.0, 40.0, 45.0])
    later = folder / '20261123_080000' / 'vis_data'
    later.mkdir(parents=True)
    lines = [dict(loss=1.0, epoch=26, iter=2500, step=2500), dict(knn_offline=44.0, step=3000)]
    (later / 'scalars.json').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    assert read_run(folder).scalars['knn_offline'].values == [40.0, 40.0, 44.0]  # what the resumed run came to


def test_a_run_that_was_stopped_does_not_go_on(tmp_path):
    folder = write_work_dir(tmp_path / 'work', lines=50)
    assert read_run(folder).goes_on
    os.utime(folder / STAMP / 'vis_data' / 'scalars.json', (0, 0))
    assert not read_run(folder).goes_on
    assert ', not finished' in render([read_run(folder)], Pictures())
    assert not read_run(write_work_dir(tmp_path / 'whole')).goes_on


def test_a_resumed_run_is_one_run(tmp_path):
    folder = write_work_dir(tmp_path / 'work', lines=150)
    later = folder / '20261123_080000' / 'vis_data'
    later.mkdir(parents=True)
    lines = [dict(loss=1.0, time=0.5, data_time=0.1, epoch=25, iter=i, step=i) for i in range(2420, 2520, 20)]
    (later / 'scalars.json').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    run = read_run(folder)
    iters = run.scalars['loss'].iters
    assert iters == [*range(20, 2420, 20), *range(2420, 2520, 20)]  # what came after the resumed step is gone
    assert run.scalars['loss'].last == 1.0
    assert [event['iter'] for event in run.events] == [20, 300, 1200]  # the spike at 2600 did not happen


def test_a_line_that_is_being_written_is_left_out_and_a_damaged_one_is_named(tmp_path):
    path = tmp_path / 'scalars.json'
    path.write_text('{"loss": 1}\n{"loss": NaN}\n{"lo')
    assert read_json_lines(path)[0] == dict(loss=1)
    assert math.isnan(read_json_lines(path)[1]['loss'])
    path.write_text('{"loss": 1}\n{"lo\n{"loss": 2}\n')
    with pytest.raises(ValueError, match='scalars.json, line 2 is damaged'):
        read_json_lines(path)


def test_what_is_no_work_dir_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no work dir'):
        read_run(tmp_path / 'nothing')
    with pytest.raises(FileNotFoundError, match='has no log'):
        read_run(tmp_path)


def test_a_folder_of_runs_names_them(tmp_path):
    for name in ('first', 'second'):
        write_work_dir(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r'is not a run but holds 2: first, second\. Pass some of them'):
        read_run(tmp_path)


def test_a_config_is_read_and_never_run(tmp_path):
    folder = write_work_dir(tmp_path / 'work')
    config = folder / STAMP / 'vis_data' / 'config.py'
    config.write_text(f'open({str(tmp_path / "ran")!r}, "w")\n' + config.read_text())
    assert read_run(folder).config['train_cfg'] == dict(max_epochs=40)
    assert not (tmp_path / 'ran').exists()


def test_the_environment_comes_from_the_log_of_an_older_run(tmp_path):
    folder = write_work_dir(tmp_path / 'work')
    log = folder / STAMP / f'{STAMP}.log'
    log.write_text(
        'System environment:\n    Python: 3.11.7 (main)\n    GPU number: 8\n    PyTorch: 2.15.0\n' + log.read_text()
    )
    run = read_run(folder)
    assert run.environment == dict(python='3.11.7 (main)', processes='8', torch='2.15.0')
    assert run.batch_size == 8 * 256


def test_names_are_as_short_as_they_can_be(tmp_path):
    assert name_runs(['a/x', 'a/y']) == ['x', 'y']
    assert name_runs(['a/x/', 'b/x']) == ['a/x', 'b/x']
    assert len(set(name_runs(['a/x', 'a/x']))) == 2
