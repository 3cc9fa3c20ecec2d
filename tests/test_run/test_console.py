"""A run says in a few lines what it is, and at its end what to do with it; the log file has all."""

import logging
import re
from pathlib import Path

from mocox.run.console import _NoMonologue
from tests.support.tiny_run import run_tool, write_run


def test_a_run_speaks_like_a_person(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    run_tool('train.py', write_run(tmp_path), '--work-dir', 'out', '--epochs', '2')
    out, err = capfd.readouterr()
    lines = (out + err).splitlines()
    first = next(number for number, line in enumerate(lines) if ' left' in line)
    start = '\n'.join(lines[:first])
    assert first <= 15, start
    for words in (r'tiny\.py', 'MoCoV3, MoCoViT', r'24 in .*images', r'1 x 8 = 8 images; 3 steps per epoch, 2 epochs'):
        assert re.search(words, start), start
    assert re.search(r'learning rate +0\.00313 at its peak, AdamW', start)  # 0.1 x 8 / 256
    assert 'WARNING' not in out + err
    assert 'System environment' not in out + err
    end = '\n'.join(lines[-8:])
    ends = ('weights  out/epoch_2.pth', 'report   out/report.html', 'evaluate out/epoch_2.pth', 'search', 'extract')
    for words in ends:
        assert words in end, end
    (log,) = Path('out').glob('*/*.log')
    text = log.read_text()
    assert 'System environment' in text and 'Config:' in text and 'Epoch(train)' in text


def test_scores_of_a_validation_stay_and_warnings_too():
    def passes(path: str, module: str, level: int = logging.INFO, message: str = 'x') -> bool:
        record = logging.LogRecord('mmengine', level, f'/site/{path}', 1, message, None, None)
        record.module = module
        return _NoMonologue().filter(record)

    assert not passes('mmengine/runner/runner.py', 'runner')
    assert passes('mmengine/runner/runner.py', 'runner', logging.WARNING)
    assert passes('mmengine/hooks/logger_hook.py', 'logger_hook')
    assert passes('mmengine/logging/logger.py', 'logger')  # print_log of ours
    assert passes('mocox/monitors/monitor_hook.py', 'monitor_hook')
    assert not passes('mmengine/fileio/x.py', 'x', logging.WARNING, '"FileClient" will be deprecated in future')
