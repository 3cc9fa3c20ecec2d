"""The command ``mocox``: what it knows, that it answers at once, and that ``tools/`` starts the same."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from mocox.__main__ import main
from mocox.checkpoint import TARGETS
from mocox.commands import SUMMARIES, convert

ROOT = Path(__file__).parents[2]
OF_DEVELOPERS = {'benchmark', 'forecast', 'fault_injection', 'quality', 'gpu_day'}


@pytest.mark.parametrize('name', SUMMARIES)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, '--help'])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f'usage: mocox {name} ')


def test_the_help_of_no_command_imports_what_is_slow():
    """Torch takes seconds; an answer to --help shall take less than half of one."""
    code = (
        'import sys\nfrom importlib import import_module\nfrom mocox.__main__ import SUMMARIES, usage\nusage()\n'
        'for name in SUMMARIES:\n    import_module(f"mocox.commands.{name}").make_parser().format_help()\n'
        'print({"torch", "mmengine", "numpy", "matplotlib"} & set(sys.modules))'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout.strip() == 'set()'


def test_list_and_modules_are_the_same():
    modules = {path.stem for path in (ROOT / 'mocox' / 'commands').glob('*.py')} - {'__init__'}
    assert modules == set(SUMMARIES)
    assert all(callable(import_module(f'mocox.commands.{name}').run) for name in modules)


def test_tools_are_commands():
    for path in (ROOT / 'tools').glob('*.py'):
        if path.stem not in OF_DEVELOPERS:
            name = re.search(r"main\('(\w+)'", path.read_text())[1]
            assert name in SUMMARIES, path


def test_targets_are_those_of_the_writer():
    assert set(convert.TARGETS) == set(TARGETS)


@pytest.mark.parametrize('arguments', [[], ['--help'], ['help']])
def test_without_a_command_it_lists_them(arguments, capsys):
    main(arguments)
    shown = capsys.readouterr().out
    assert all(f'  {name} ' in shown for name in SUMMARIES)


def test_an_unknown_command_ends_with_the_nearest(capsys):
    with pytest.raises(SystemExit) as end:
        main(['trian', 'x'])
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: there is no command 'trian'; did you mean train?\n"


def test_version(capsys):
    main(['--version'])
    assert capsys.readouterr().out == 'mocox 0.1.0\n'
