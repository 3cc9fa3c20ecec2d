"""A run of a recipe beside the recipe's measured run."""

import json
import re

import pytest

from mocox.report.expected import Expected, describe, expected_of
from mocox.report.page import render
from mocox.report.pictures import Pictures
from mocox.report.runs import read_run
from mocox.run.options import prepare_config
from tests.test_report.work_dirs import STAMP

NAME = 'resnet18_fashion'


def write_run(folder, percent: dict[int, float], config: str = f'configs/mocov3/{NAME}.py', **changes):
    """A log of epochs of 10 steps, of which every second line repeats what was measured before."""
    part = folder / STAMP / 'vis_data'
    part.mkdir(parents=True)
    lines = []
    for epoch, value in percent.items():
        for late in (0, 5):
            place = max(10 * epoch, 1) + late
            line = dict(
                loss=3.0 - 0.01 * place,
                knn_plain=value,
                plain_alignment=1 / (1 + epoch),
                iter=place,
                step=place,
                epoch=1 + (place - 1) // 10,
            )
            lines.append(json.dumps(line) + '\n')
    (part / 'scalars.json').write_text(''.join(lines))
    options = prepare_config(config, cfg_options=changes).to_dict()
    text = ''.join(f'{name} = {value!r}\n' for name, value in options.items())
    for path in (part / 'config.py', folder / config.rpartition('/')[2]):
        path.write_text(text)
    return read_run(folder)


def test_between_two_epochs_and_the_sampling_error():
    expected = Expected('a', 'knn_plain', 'k-NN', 400, 4, 'seed 0', {0: 50.0, 2: 70.0, 4: 80.0})
    assert [expected.at(epoch) for epoch in (0, 1, 2, 3.5, 4, 4.1)] == [50, 60, 70, 77.5, 80, None]
    assert expected.margin(80) == pytest.approx(2 * 100 * (0.8 * 0.2 / 400) ** 0.5) == 4.0


@pytest.mark.parametrize(('value', 'word'), [(70.1, 'below'), (74.0, 'level with'), (90.0, 'above')])
def test_the_run_beside_the_measured_one(tmp_path, value, word):
    """At the epoch at which it was measured, not at that of the line that repeats it."""
    run = write_run(tmp_path / 'run', {0: 56.0, 2: 71.0, 4: value})
    expected = expected_of(run)
    assert expected.differences == ()
    then = expected.percent[4]
    said = describe(run, expected)
    assert said.startswith(f'At epoch 4 k-NN on plain training images is {value:.1f} %, {word} the measured run ')
    assert f' was at {then:.1f} % ± {expected.margin(then):.1f} (16 epochs, seed ' in said and said.endswith(').')


def test_the_same_accuracy_twice_is_two_measurements(tmp_path):
    run = write_run(tmp_path / 'run', {0: 56.0, 2: 71.0, 10: 71.0})
    assert describe(run, expected_of(run)).startswith('At epoch 10 k-NN on plain training images is 71.0 %, below ')


def test_what_is_different_is_said(tmp_path):
    changes = {'model.head.temperature': 0.5, 'train_cfg.max_epochs': 50, 'train_dataloader.dataset.data_root': 'x'}
    run = write_run(tmp_path / 'run', {1: 60.0}, **changes)
    assert describe(run, expected_of(run)).endswith('). This run has another temperature.')


def test_settings_that_only_the_run_has_and_other_images_are_said(tmp_path):
    changes = {'optim_wrapper.clip_grad': dict(max_norm=1.0), 'train_dataloader.dataset.type': 'CIFAR10Images'}
    run = write_run(tmp_path / 'run', {1: 60.0}, **changes)
    assert expected_of(run).differences == ('clip gradients at', 'data set')


def test_nothing_is_compared_while_the_length_of_an_epoch_is_unknown(tmp_path):
    run = write_run(tmp_path / 'run', {0: 56.0})  # 6 of 10 iterations, which would pass for an epoch
    assert run.epoch_length == 6 and expected_of(run) is None


def test_after_its_last_epoch_the_last_that_can_be_compared_counts(tmp_path):
    run = write_run(tmp_path / 'run', {2: 71.0, 400: 85.0})
    assert describe(run, expected_of(run)).startswith('At epoch 2 ')
    assert describe(write_run(tmp_path / 'late', {400: 85.0}), expected_of(run)) == ''


def test_a_recipe_of_the_same_name_for_another_method_has_no_curve(tmp_path):
    run = write_run(tmp_path / 'run', {1: 60.0}, f'configs/mocov2/{NAME}.py')
    assert run.recipe_name == NAME and expected_of(run) is None
    assert 'measured run' not in render([run], Pictures())


def test_the_page_shows_it(tmp_path):
    runs = [write_run(tmp_path / name, {0: 56.0, 2: 71.0, 4: 60.0}) for name in ('one', 'two')]
    page = render(runs, Pictures())
    assert page.count('60.0 %, below the measured run of') == 2
    chart = page[page.index('<h3>k-NN accuracy') :].split('</figure>')[0]
    hover = json.loads(re.search(r"data-hover='(.*?)'", chart)[1])
    measured = [line for line in hover['lines'] if line['name'] == f'{NAME}, measured']
    assert len(measured) == 1 and measured[0]['y'] == [*expected_of(runs[0]).percent.values()]
    (area,) = re.findall(r'<path class="area" d="M(.*?)Z"', chart)
    assert len(area.split('L')) == 2 * len(measured[0]['x'])
