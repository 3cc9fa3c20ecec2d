import json
import logging
import re
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from mmengine.runner import Runner

from mocox.engine.progress_hook import ProgressHook, _memory
from mocox.notebook import live_line
from mocox.terminal import CLEAR_LINE
from tests.support.runs import CountingModel, run_counting
from tests.test_monitors.tiny import model, train


class ModelWithChance(CountingModel):
    def chance_level(self, batch_size: int) -> float:
        return 100 + batch_size


def progress_lines(text: str) -> list[str]:
    return [line for line in re.split(f'\n|{re.escape(CLEAR_LINE)}', text) if ' left' in line]


def test_lines_tell_where_training_is(tmp_path, capsys):
    run_counting(tmp_path, ProgressHook(seconds=0), ModelWithChance())
    lines = progress_lines(capsys.readouterr().out)
    assert len(lines) == 9
    # Step 5 of 9 is the second of epoch 2. A chance level of 100 + 4 images says which batch size was passed on.
    assert re.fullmatch(
        r'#{6}\.{6}  56% \| epoch 2/3 \| loss 5\.000 \(chance 104\.000\) '
        r'\| \d+ img/s, \d+% waiting \| \d+\.\d GB \| 0:00:0\d left',
        lines[4],
    )
    assert lines[-1].startswith('#' * 12 + ' 100% | epoch 3/3')


def test_a_line_with_monitors_is_short_and_says_all(tmp_path, capsys):
    train(tmp_path / 'run', epochs=30, lr=0.01, model=model(), extra=[ProgressHook(seconds=0)])
    lines = progress_lines(capsys.readouterr().out)
    assert max(map(len, lines)) <= 155  # a start of k-NN and a speed of four digits included
    assert re.fullmatch(
        r'#{12} 100% \| epoch 30/30 \| loss \d\.\d{3} \(chance 2\.22, floor 0\.06\) \d\d% learning '
        r'\| k-NN \d+% \(\d+%\) \| \d+ img/s, \d+% waiting \| \d\.\d GB \| 0:00:00 left',
        lines[-1],
    )


def test_few_lines_where_the_output_is_no_terminal(tmp_path, capsys):
    run_counting(tmp_path, ProgressHook(seconds=100), CountingModel())
    out = capsys.readouterr().out
    first, last = progress_lines(out)
    assert 'loss 1.000 |' in first
    assert 'loss 5.500 |' in last  # the mean of 2 to 9, all steps since the line before
    assert '\x1b' not in out.replace('\x1b[37mINFO\x1b[0m', '')


def test_one_renewed_line_in_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True)
    run_counting(tmp_path, ProgressHook(), CountingModel())
    out = capsys.readouterr().out
    assert f'{CLEAR_LINE}#####' in out
    assert 'left\n' in out  # after training the line is left standing
    assert len(progress_lines(out)) >= 2


def test_the_console_has_no_second_log_but_the_file_has(tmp_path, capsys):
    runner = run_counting(tmp_path, ProgressHook(seconds=0), CountingModel())
    assert 'Epoch(train)' not in capsys.readouterr().out
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert log.count('Epoch(train)') == 9
    scalars = [json.loads(line) for line in next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    assert [entry['loss'] for entry in scalars][-1] == 5.0  # the mean of 1 to 9
    runner.logger.handlers[0].handle(
        logging.makeLogRecord(dict(levelno=20, levelname='INFO', module='logger_hook', msg='Epoch(train) 10'))
    )
    assert 'Epoch(train) 10' in capsys.readouterr().out  # the hook has let go of the console


@pytest.mark.parametrize('rank', [0, 1])
def test_only_the_first_process_speaks(tmp_path, capsys, monkeypatch, rank):
    monkeypatch.setattr(Runner, 'rank', rank)
    run_counting(tmp_path, ProgressHook(seconds=0), CountingModel(), epochs=1)
    assert len(progress_lines(capsys.readouterr().out)) == (3 if rank == 0 else 0)


def test_a_system_that_does_not_tell_its_memory_gets_a_line_without(monkeypatch):
    """Windows has no module ``resource``."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert _memory().endswith(' GB')
    monkeypatch.setitem(sys.modules, 'resource', None)
    assert _memory() == ''


@pytest.mark.parametrize('kernel', [None, object()])
def test_a_notebook_has_a_kernel(monkeypatch, kernel):
    """In a terminal IPython is one like any other."""
    shown = []
    ipython, display = ModuleType('IPython'), ModuleType('IPython.display')
    ipython.get_ipython = lambda: SimpleNamespace(kernel=kernel)
    handle = SimpleNamespace(update=lambda data, raw: shown.append(data['text/plain']))
    display.display = lambda data, raw, display_id: handle
    monkeypatch.setitem(sys.modules, 'IPython', ipython)
    monkeypatch.setitem(sys.modules, 'IPython.display', display)
    show = live_line()
    if kernel is None:
        assert show is None
    else:
        show('half')
        assert shown == ['half']


def test_a_notebook_renews_one_line(tmp_path, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr('mocox.engine.progress_hook.live_line', lambda: shown.append)
    run_counting(tmp_path, ProgressHook(seconds=1000), ModelWithChance())
    assert progress_lines(capsys.readouterr().out) == []
    assert '100% | epoch 3/3' in shown[-1]
