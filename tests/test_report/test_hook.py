"""The page that a real run leaves, and a run that its page cannot stop."""

import json
import re
import time

import pytest
import torch

from mocox.report import page as report_page
from mocox.report.hook import ReportHook
from mocox.report.pictures import from_model
from tests.support.processes import forget_runner
from tests.support.tiny_run import run_tool, write_run

PART = 'default_hooks.report'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('report')
    write_run(folder)
    return folder


def train(folder, name: str, *options: str):
    """The work dir of a run with these changes of its config."""
    work_dir = folder / name
    options = options or (f'{PART}.maps=[pca]',)
    run_tool('train.py', folder / 'tiny.py', '--work-dir', work_dir, '--cfg-options', *options)
    forget_runner()
    return work_dir


def test_a_run_ends_with_a_page_that_shows_everything(folder):
    work_dir = train(folder, 'all')
    page = (work_dir / 'report.html').read_text()
    assert 'epoch</dt><dd>4 of 4' in page and ', finished' in page
    sections = ('Contrastive loss', 'Learning rate', 'Augmented pairs', 'Nearest neighbours', 'Where the heads look')
    assert all(f'<h3>{name}' in page for name in sections)
    assert page.count('<use href="#dot"') == 24  # the map: no class folders, 24 images
    assert re.search('mocov3_vit-small</code>', page)
    environment = json.loads(next(work_dir.glob('*/vis_data/environment.json')).read_text())
    assert environment['processes'] == 1 and environment['torch'] and environment['mocox']
    assert 'while training goes on' not in page


def test_a_page_is_written_while_training_goes_on(folder, monkeypatch):
    written = []
    real = report_page.write_report
    monkeypatch.setattr('mocox.report.page.write_report', lambda *a, **k: (written.append(a[3]), real(*a, **k)))
    clock = iter(range(0, 10**6, 30))  # every look at the clock is 30 s later
    monkeypatch.setattr('mocox.report.hook.time', type('Clock', (), dict(monotonic=lambda: next(clock))))
    work_dir = train(folder, 'often', f'{PART}.minutes=2', f'{PART}.num_images=0')
    # 12 steps, 30 s each, one more after a page: at 30 s, then when 2 minutes have passed, and after the last step.
    assert written[:-1] and set(written[:-1]) == {True} and written[-1] is False
    assert len(written) - 1 == 3
    assert 'Augmented pairs' in (work_dir / 'report.html').read_text()
    assert 'Nearest neighbours' not in (work_dir / 'report.html').read_text()


def test_a_page_waits_for_the_first_line_of_the_log(folder):
    at_once = (f'{PART}.minutes=1e-9', f'{PART}.num_images=0', 'default_hooks.logger.interval=50')
    work_dir = train(folder, 'early', *at_once)
    assert 'FileNotFoundError' not in next(work_dir.glob('*/*.log')).read_text()
    assert (work_dir / 'report.html').is_file()


def test_a_page_that_cannot_be_written_does_not_end_the_run(folder, monkeypatch):
    def fail(*arguments, **settings):
        raise RuntimeError('no space left')

    monkeypatch.setattr('mocox.report.page.write_report', fail)
    work_dir = train(folder, 'failing', f'{PART}.minutes=1e-9', f'{PART}.num_images=0')
    assert (work_dir / 'epoch_4.pth').is_file()
    log = next(work_dir.glob('*/*.log')).read_text()
    assert (
        log.count('report.html: RuntimeError: no space left. Training continues without it') == 1
    )  # and not in every step
    assert not (work_dir / 'report.html').exists()


def test_pictures_that_cannot_be_drawn_leave_the_reason_on_the_page(folder):
    options = ['model.backbone.arch.num_heads=4', 'train_cfg.max_epochs=2', f'{PART}.num_images=3']
    page = (train(folder, 'few', *options) / 'report.html').read_text()
    assert 'no PCA map: 3 images are too few for a map' in page
    assert '<h3>Nearest neighbours' in page


def test_the_weights_are_those_of_a_run_without_it(folder):
    with_page, without = folder / 'all', train(folder, 'none', f'{PART}.minutes=0')
    states = [torch.load(path / 'epoch_4.pth', weights_only=True)['state_dict'] for path in (with_page, without)]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert not (without / 'report.html').exists() and not list(without.glob('*/vis_data/environment.json'))


def test_the_tool_writes_the_same_from_files(folder, tmp_path, capsys):
    run_tool('report.py', folder / 'all', folder / 'few', '--out', tmp_path / 'both.html', '--maps', 'pca')
    out = capsys.readouterr().out
    assert 'all: ' in out and 'few: ' in out and f'written: {tmp_path}/both.html' in out
    page = (tmp_path / 'both.html').read_text()
    assert page.count('<article') == 2
    assert '<h3>Where the heads look' in page and 'epoch_4.pth' in page
    with pytest.raises(SystemExit):
        run_tool('report.py', tmp_path)
    assert 'has no log' in capsys.readouterr().err


def test_only_the_first_process_writes(tmp_path):
    hook, seen = ReportHook(), []
    hook._guard(type('Runner', (), dict(rank=1)), lambda runner: seen.append(runner))
    hook.next_time = time.monotonic() + 9
    assert seen == []


def test_a_sharded_model_is_not_drawn_by_one_process(folder):
    class Sharded(torch.nn.Linear):
        data_preprocessor = None

        def parameters(self, recurse=True):
            yield type('DTensor', (), dict(device_mesh=1))()

    pictures = from_model(Sharded(1, 1), [], {})
    assert 'spread over processes' in pictures.notes[-1] and not pictures.neighbours


@pytest.mark.parametrize('settings', [dict(minutes=-1), dict(num_images=-1)])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match='must not be below 0'):
        ReportHook(**settings)
