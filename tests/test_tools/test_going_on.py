"""Training goes on from weights that are good: a run says in words whether they are better now, or lost."""

import json
import re
from pathlib import Path

import pytest

from mocox.demo import write_digits
from tests.support.processes import forget_runner
from tests.support.tiny_run import ROOT, run_tool

pytestmark = pytest.mark.slow  # half a minute: the start has to be a good one
RECIPE = ROOT / 'configs' / 'mocov3' / 'vit-tiny_digits.py'
SMALL = ['model.backbone.arch.num_layers=2', 'default_hooks.progress.seconds=0']


def train(folder: Path, name: str, *options: object, changes: tuple[str, ...] = ()) -> Path:
    places = ('--data-root', folder / 'digits', '--work-dir', folder / name)
    run_tool('train.py', RECIPE, *places, *options, '--cfg-options', *SMALL, *changes)
    forget_runner()
    return folder / name


def ended(work_dir: Path) -> dict:
    lines = next(work_dir.glob('*/vis_data/events.jsonl')).read_text().splitlines()
    return [event for event in map(json.loads, lines) if event['kind'] == 'end'][-1]


@pytest.fixture(scope='module')
def start(tmp_path_factory) -> Path:
    """Digits, and a transformer of two blocks that has learned from them without labels."""
    folder = tmp_path_factory.mktemp('start')
    write_digits(folder / 'digits')
    run = train(folder, 'start', '--epochs', 6, changes=('param_scheduler.warmup_epochs=1',))
    assert int(re.search(r'k-NN on plain images from \d+ to (\d+) %', ended(run)['message'])[1]) > 80
    return folder


def test_a_small_learning_rate_keeps_the_start(start, capsys):
    options = ('--pretrained', start / 'start', '--epochs', 2, '--lr', 1e-3)
    run = train(start, 'kept', *options, changes=('param_scheduler.warmup_epochs=0',))
    message = ended(run)['message']
    first, last, words = re.search(
        r'k-NN on plain images from (\d+) to (\d+) %, (better than|level with) its start', message
    ).groups()
    assert int(first) > 80 and (int(last) > int(first) or words == 'level with')
    log, shown = next(run.glob('*/*.log')).read_text(), capsys.readouterr().out
    assert re.search(r'before the first step: k-NN 8\d\.\d %, .* \(510 plain images, \d+\.\d s\)', log)
    assert f'k-NN {last}% ({first}%)' in shown
    assert f'from {first} to {last} %, {words} its start' in (run / 'report.html').read_text()


def test_too_large_a_learning_rate_loses_the_start(start):
    options = ('--pretrained', start / 'start', '--epochs', 2, '--batch-size', 16, '--lr', 0.2)
    run = train(start, 'lost', *options, changes=('param_scheduler.warmup_epochs=0',))
    end = ended(run)
    assert end['state'] == 'below its start'
    assert end['message'].startswith('The run has lost what it started from')
    log = next(run.glob('*/*.log')).read_text()
    words = r'below its start for \d+ iterations: k-NN on plain images \d+ % after 8\d %\. Usual causes: the learning '
    assert re.search(words + r'rate is too high .*: divide optim_wrapper\.optimizer\.lr by 10; the new heads', log)
    assert 'below its start' in (run / 'report.html').read_text()
