"""What README.md and the pages for beginners say is true: examples run, commands are understood, files exist."""

import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from mocox.configs import find_config
from mocox.demo import write_digits

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text(encoding='utf-8')


PAGES = {name: (ROOT / name).read_text(encoding='utf-8') for name in ('README.md', 'docs/own_images.md')}
COMPONENTS = (ROOT / 'docs' / 'components.md').read_text(encoding='utf-8')


def code_after(words: str) -> str:
    """The first Python block behind some words of docs/components.md."""
    return re.search(r'```python\n(.*?)```', COMPONENTS[COMPONENTS.index(words) :], re.DOTALL)[1]


def commands() -> list[str]:
    """Every line of the pages that starts mocox or one of the tools."""
    blocks = [block for page in PAGES.values() for block in re.findall(r'```bash\n(.*?)```', page, re.DOTALL)]
    lines = [part.strip() for block in blocks for line in block.splitlines() for part in line.split('&&')]
    return [line for line in lines if line.startswith(('mocox', 'python tools/', 'tools/'))]


@pytest.mark.parametrize('line', commands())
def test_a_command_is_understood(line):
    """By its parser, and the config that it names is there."""
    words = shlex.split(line, comments=True)
    if words[0] == 'mocox':
        name, arguments = words[1], words[2:]
    elif words[0] == 'python':
        name = re.search(r"main\('(\w+)'", (ROOT / words[1]).read_text())[1]
        arguments = words[2:]
    else:  # a script, whose second argument is the number of processes
        name, arguments = 'train', [words[1], *words[3:]]
    parsed = import_module(f'mocox.commands.{name}').make_parser().parse_args(arguments)
    if getattr(parsed, 'config', None) and not parsed.config.startswith('WORK_DIR'):
        assert find_config(parsed.config).is_file()


def test_the_two_commands_of_the_set_up():
    assert '```bash\npip install -e . && python tools/demo.py\n```' in README
    assert '```bash\npip install -e ".[test]" && pytest\n```' in README


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
    assert not re.search(r'\bnan\b', done.stdout + done.stderr)  # chance and floor of this loss are not known
    assert (tmp_path / 'work_dirs' / 'my_config' / 'epoch_1.pth').is_file()


def test_links_lead_somewhere():
    for page, folder in ((README, ROOT), (COMPONENTS, ROOT / 'docs'), (PAGES['docs/own_images.md'], ROOT / 'docs')):
        targets = re.findall(r'\]\((?!https?:)([^)#]+)\)', page)
        assert targets
        assert [target for target in targets if not (folder / target).exists()] == []


def test_commands_name_files_that_exist():
    paths = set(re.findall(r'(?<![\w/])(?:tools|configs|requirements|tests)/[\w./-]+\.(?:py|sh|txt)', README))
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_no_placeholder_is_left():
    assert not re.search(r'\b[A-Z]+_(?:OUTPUT|TABLE)\b|TODO', README)
