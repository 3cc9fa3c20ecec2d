"""Logs and configs of a work dir that are not what a training writes: an error or a note that names the file."""

import json

import pytest

from mocox.report.page import render
from mocox.report.pictures import Pictures, from_checkpoint
from mocox.report.runs import read_run
from mocox.report.verdict import judge
from tests.support.tiny_run import run_tool
from tests.test_report.work_dirs import CONFIG, STAMP, write_work_dir

DEEP = '[' * 100_000
GOOD = '{"loss": 1.5, "iter": 1, "step": 1, "epoch": 1}'
LINES = {
    'no JSON': 'loss 1.5',
    'deep': DEEP,
    'digits': f'{{"loss": {"9" * 5000}}}',
    'huge': f'{{"loss": {"9" * 400}}}',
    'iter is text': '{"loss": 1.5, "iter": "1"}',
    'iter is null': '{"loss": 1.5, "iter": null}',
    'iter is true': '{"loss": 1.5, "iter": true}',
    'iter is nan': '{"loss": 1.5, "iter": NaN}',
    'iter is below 0': '{"loss": 1.5, "iter": -1}',
    'iter is huge': f'{{"loss": 1.5, "iter": {10**30}}}',
    'iter is a list': '{"loss": 1.5, "iter": [1]}',
    'step is text': '{"accuracy": 1.5, "step": "a"}',
    'epoch is a dict': '{"loss": 1.5, "iter": 1, "epoch": {}}',
    'half a pair': '{"loss": 1.5, "\\ud800": ',
}


@pytest.mark.parametrize('line', LINES.values(), ids=LINES)
def test_a_damaged_line_of_the_scalars_is_named(tmp_path, capsys, line):
    folder = write_work_dir(tmp_path / 'work', lines=2)
    (folder / STAMP / 'vis_data' / 'scalars.json').write_text(f'{GOOD}\n{line}\n{GOOD}\n')
    with pytest.raises(SystemExit):
        run_tool('report.py', folder, '--no-pictures')
    error = capsys.readouterr().err
    assert error.startswith(f'error: {folder}/{STAMP}/vis_data/scalars.json, line 2')
    assert 'Traceback' not in error
    assert len(error) < 1000


@pytest.mark.parametrize(
    'event',
    ['{', DEEP, '{"iter": "a"}', '{"iter": 1, "kind": 5}', '{"iter": 1, "state": []}', '{"iter": 1, "message": {}}',
     '{"iter": 1, "evidence": 5}', '{"iter": 1, "causes": "x"}', f'{{"iter": {10**20}}}'],
)  # fmt: skip
def test_a_damaged_event_is_named(tmp_path, event):
    folder = write_work_dir(tmp_path / 'work', lines=2)
    (folder / STAMP / 'vis_data' / 'events.jsonl').write_text(f'{event}\n{{"iter": 1, "kind": "spike"}}\n')
    with pytest.raises(ValueError, match=r'events\.jsonl, line 1'):
        read_run(folder)


@pytest.mark.parametrize(
    'text', ['', '{', '[]', 'null', DEEP, '{"processes": "many"}', '{"processes": -1}', '{"processes": {}}',
             '{"processes": 1e400}', f'{{"processes": {"9" * 5000}}}', '{"device": [[]]}'],
)  # fmt: skip
def test_a_damaged_environment_is_named(tmp_path, text):
    folder = write_work_dir(tmp_path / 'work', lines=2)
    (folder / STAMP / 'vis_data' / 'environment.json').write_text(text)
    with pytest.raises(ValueError, match=STAMP):
        read_run(folder)


LEVELS = [('NaN', '0'), ('1', '1'), ('Infinity', '-Infinity'), ('1e308', '-1e308'), ('"a"', '0'), ('null', 'null')]


@pytest.mark.parametrize(('chance', 'floor'), LEVELS)
def test_odd_numbers_are_drawn(tmp_path, chance, floor):
    folder = write_work_dir(tmp_path / 'work', lines=2, monitored=False)
    lines = [
        f'{{"loss": {loss}, "chance": {chance}, "floor": {floor}, "progress": {loss}, "time": {time}, "iter": {i}}}'
        for i, (loss, time) in enumerate([('1e300', '1e300'), ('NaN', '-1'), ('-1e300', 'NaN'), ('2', '0')] * 3)
    ]
    (folder / STAMP / 'vis_data' / 'scalars.json').write_text('\n'.join(lines) + '\n')
    run = read_run(folder)
    assert judge(run).state
    assert '<svg' in render([run], Pictures())


VALUES = [
    'None',
    '"x"',
    '[]',
    '{}',
    '-1',
    '1e400',
    '10**3',
    '"9" * 5',
    f'{"9" * 400}',
    'b"x"',
    '[[[[[1]]]]]',
    'True',
    '1j',
]
KEYS = ['model', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'auto_scale_lr', 'param_scheduler', 'custom_hooks']
PLACES = [
    'train_dataloader = dict(batch_size={})',
    'train_dataloader = dict(batch_size=8, dataset={})',
    'train_dataloader = dict(batch_size=8, dataset=dict(type="ImageFiles", data_root={0}, crops={0}))',
    'train_cfg = dict(max_epochs={})',
    'optim_wrapper = dict(type={0}, optimizer={0}, accumulative_counts={0})',
    'optim_wrapper = dict(optimizer=dict(type={0}, lr={0}, weight_decay={0}))',
    'auto_scale_lr = dict(enable=True, base_batch_size={})',
    'model = dict(type="MoCoV3", backbone={0}, neck={0}, head={0})',
    'model = dict(type="MoCoV3", base_momentum={0}, head=dict(type="ContrastiveHead", temperature={0}))',
    'model = dict(type="MoCo", queue_len={0}, backbone=dict(type={0}), neck=dict(type={0}), head=dict(type={0}))',
    'model = dict(type="MoCoV3", data_preprocessor=dict(type="ViewsPreprocessor", mean={0}, views={0}))',
    'model = dict(type={})',
    *(f'{key} = {{}}' for key in KEYS),
]


@pytest.mark.parametrize('place', PLACES)
def test_odd_configs_are_left_out_with_a_note(tmp_path, place):
    """Whatever stands there: a page, and where the config was of no use its name under the warnings or the pictures."""
    folder = write_work_dir(tmp_path / 'work', lines=2, monitored=False)
    for value in VALUES:
        text = place.format(value)
        (folder / STAMP / 'vis_data' / 'config.py').write_text(f'{CONFIG}\n{text}\n')
        run = read_run(folder)
        page = render([run], from_checkpoint(run.config, None))
        assert '<svg' in page, text
        assert run.config or STAMP in str(run.warnings), text


@pytest.mark.parametrize(
    'text', ['def', '\0', DEEP, '-' * 50_000 + '1', 'a = ' + '(' * 5000, 'a.b = 1', '*a, b = 1', '# coding: no']
)
def test_a_config_that_is_no_python_is_no_config(tmp_path, text):
    folder = write_work_dir(tmp_path / 'work', lines=2, monitored=False)
    (folder / STAMP / 'vis_data' / 'config.py').write_text(text)
    assert read_run(folder).config in ({}, {'b': None})


def test_a_last_line_without_its_end_is_left_out(tmp_path):
    folder = write_work_dir(tmp_path / 'work', lines=2)
    scalars = folder / STAMP / 'vis_data' / 'scalars.json'
    scalars.write_text(f'{GOOD}\n{json.dumps(dict(loss=2.0, iter=2))[:-3]}')
    assert read_run(folder).num_iters == 1
