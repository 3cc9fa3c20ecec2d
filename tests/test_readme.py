"""What README.md and the pages for beginners say is true: examples run, commands are understood, files exist."""

import os
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from importlib import import_module
from pathlib import Path

import pytest

from mocox.configs import find_config
from mocox.demo import write_digits

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text(encoding='utf-8')


PLACES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')), *sorted((ROOT / 'configs').rglob('README.md'))]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding='utf-8') for path in PLACES}
COMPONENTS = (ROOT / 'docs' / 'components.md').read_text(encoding='utf-8')


def code_after(words: str) -> str:
    """The first Python block behind some words of docs/components.md."""
    return re.search(r'```python\n(.*?)```', COMPONENTS[COMPONENTS.index(words) :], re.DOTALL)[1]


def commands() -> dict[str, str]:
    """Every line of the pages that starts mocox or one of its tools, with the page that it is on."""
    found = {}
    for page, text in PAGES.items():
        for block in re.findall(r'```(?:bash|sh|shell)?\n(.*?)```', text, re.DOTALL):
            for line in block.replace('\\\n', ' ').splitlines():
                for part in line.split('&&'):
                    command = re.sub(r'^(\w+=\S* )+', '', part.strip())  # settings of the environment
                    if command.startswith(('mocox ', 'python tools/', 'tools/')):
                        found.setdefault(command, page)
    return found


def parser_for(words: list[str]) -> tuple[ArgumentParser, list[str]]:
    """The parser of a command, and what is left for it to understand."""
    if words[0] == 'mocox':
        return import_module(f'mocox.commands.{words[1]}').make_parser(), words[2:]
    if words[0] == 'python':
        code = (ROOT / words[1]).read_text()
        if name := re.search(r"main\('(\w+)'", code):
            return import_module(f'mocox.commands.{name[1]}').make_parser(), words[2:]
        return import_module(Path(words[1]).stem).make_parser(), words[2:]  # an instrument: tools/ is on the path
    train = import_module('mocox.commands.train').make_parser()
    if 'slurm' in words[0]:  # PARTITION JOB CONFIG WORK_DIR
        return train, [words[3], '--work-dir', *words[4:]]
    return train, [words[1], *words[3:]]  # CONFIG PROCESSES


@pytest.mark.parametrize(('line', 'page'), commands().items())
def test_a_command_is_understood(line, page):
    """By its parser, and the config that it names is there."""
    parser, arguments = parser_for(shlex.split(line, comments=True))
    parsed = parser.parse_args(arguments)
    if getattr(parsed, 'config', None) and not re.match(r'WORK_DIR|CONFIG|my_|[A-Z]', parsed.config):
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
