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
from mocox.evaluation.data import open_data
from mocox.run.options import prepare_config

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


@pytest.mark.parametrize('names', ['configs list', 'configs copy', 'visualize views', 'visualize attention'])
def test_the_usage_of_a_part_of_a_command_can_be_copied(names, capsys):
    with pytest.raises(SystemExit):
        main([*names.split(), '--help'])
    assert capsys.readouterr().out.startswith(f'usage: mocox {names} ')


@pytest.mark.parametrize(('name', 'arguments', 'goes_on'), [('pretrain', ['DIR', '--out', 'RUN'], True),
                                                            ('extract', ['IN', 'OUT'], False)])  # fmt: skip
def test_an_interrupt_says_how_to_go_on(name, arguments, goes_on, monkeypatch):
    def interrupt(parsed):
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module(f'mocox.commands.{name}'), 'run', interrupt)
    with pytest.raises(SystemExit) as end:
        main([name, *arguments])
    assert ('--resume' in str(end.value)) == goes_on
    assert str(end.value).startswith('\ninterrupted')


def test_a_file_in_place_of_the_folder_is_said_to_be_one(tmp_path):
    file = tmp_path / 'one.jpg'
    file.touch()
    with pytest.raises(FileNotFoundError, match='it is a file: pass the folder that holds it'):
        prepare_config('mocov3/resnet18_custom.py', data_root=str(file))
    with pytest.raises(FileNotFoundError, match='it is a file: pass the folder that holds it'):
        open_data(str(file), {})
