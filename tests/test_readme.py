"""What README.md says is true: its example runs, and the files it names exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mocox.demo import write_digits

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text(encoding='utf-8')


def code_after(words: str) -> str:
    """The first Python block behind some words."""
    return re.search(r'```python\n(.*?)```', README[README.index(words) :], re.DOTALL)[1]


@pytest.mark.slow
def test_the_component_of_your_own_trains(tmp_path):
    (tmp_path / 'my_loss.py').write_text(code_after('`my_loss.py`:'))
    (tmp_path / 'my_config.py').write_text(code_after('`my_config.py`:'))
    write_digits(tmp_path / 'digits')
    options = ['train_cfg.max_epochs=1', 'train_dataloader.num_batch_per_epoch=2']
    command = [sys.executable, str(ROOT / 'tools' / 'train.py'), 'my_config.py', '--data-root', 'digits']
    done = subprocess.run(
        [*command, '--cfg-options', *options],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': '.', 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    (log,) = (tmp_path / 'work_dirs' / 'my_config').glob('*/*.log')
    assert 'SmoothedInfoNCE' in log.read_text()
    assert (tmp_path / 'work_dirs' / 'my_config' / 'epoch_1.pth').is_file()


def test_links_lead_somewhere():
    targets = re.findall(r'\]\((?!https?:)([^)#]+)\)', README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_commands_name_files_that_exist():
    paths = set(re.findall(r'(?<![\w/])(?:tools|configs|requirements|tests)/[\w./-]+\.(?:py|sh|txt)', README))
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_no_placeholder_is_left():
    assert not re.search(r'\b[A-Z]+_(?:OUTPUT|TABLE)\b|TODO', README)
