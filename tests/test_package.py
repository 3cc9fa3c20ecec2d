"""What is in a wheel, an editable installation and a source distribution, and that configs are found from each."""

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BUILD = """
import setuptools.build_meta as backend
for build in (backend.build_sdist, backend.build_wheel, backend.build_editable):
    print('BUILT', build('dist'))
"""

# The user's file lies anywhere; both libraries are imported in either order.
USE = """
import {first}, {second}
from mmengine import Config, hub
path = {path!r}
own = Config.fromfile(path)
assert own.model.type == 'MoCoV3' and own.train_cfg.max_epochs == 7, own
assert hub.get_config('mocox::mocov3/vit-small.py').model.type == 'MoCoV3'
import torch
with torch.device('meta'):
    assert type(hub.get_model('mocox::mocov3/vit-small_linear.py')).__name__ == 'LinearProbe'
print('FOUND', mocox.__file__)
"""


def run(code: str, cwd: Path, path: Path | None = None, options: tuple[str, ...] = ()) -> str:
    """Runs code in a new interpreter that has nothing of this checkout on its path but ``path``."""
    env = {'PATH': '/usr/bin:/bin', 'HOME': str(cwd), **({'PYTHONPATH': str(path)} if path else {})}
    result = subprocess.run([sys.executable, *options, '-c', code], cwd=cwd, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope='module')
def built(tmp_path_factory) -> Path:
    """A copy of the source tree in which all three kinds of distribution have been built."""
    folder = tmp_path_factory.mktemp('source') / 'clone'
    unwanted = shutil.ignore_patterns('.*', '__pycache__', '*.egg-info', 'build', 'dist', 'work_dirs', 'data', 'venv')
    shutil.copytree(ROOT, folder, ignore=unwanted)
    run(BUILD, folder)
    return folder


@pytest.fixture(scope='module')
def installed(built, tmp_path_factory) -> Path:
    """The wheel, unpacked as pip does."""
    folder = tmp_path_factory.mktemp('site-packages')
    zipfile.ZipFile(next(built.glob('dist/*0-py3-none-any.whl'))).extractall(folder)
    return folder


def files_below(folder: Path) -> set[str]:
    files = (path for path in folder.rglob('*') if path.is_file() and '__pycache__' not in path.parts)
    return {str(path.relative_to(folder)) for path in files}


def test_wheel_holds_package_configs_and_tools(installed):
    mim = installed / 'mocox' / '.mim'
    assert files_below(mim / 'configs') == files_below(ROOT / 'configs')
    of_developers = {'benchmark.py', 'forecast.py', 'fault_injection.py', 'quality.py', 'gpu_day.py'}
    expected = {name for name in files_below(ROOT / 'tools') - of_developers if not name.startswith('lab/')}
    assert files_below(mim / 'tools') == expected
    assert (mim / 'model-index.yml').read_text() == (ROOT / 'model-index.yml').read_text()
    source = {str(path.relative_to(ROOT)) for path in (ROOT / 'mocox').rglob('*.py') if '.mim' not in path.parts}
    source.add('mocox/report/page.html')
    assert {f'mocox/{name}' for name in files_below(installed / 'mocox') if not name.startswith('.mim')} == source
    assert {path.name for path in installed.iterdir()} == {'mocox', 'mocox-0.1.0.dist-info'}


def test_wheel_metadata(installed):
    metadata = (installed / 'mocox-0.1.0.dist-info' / 'METADATA').read_text()
    for line in ('Name: mocox', 'License-Expression: Apache-2.0', 'Requires-Python: >=3.11', 'Provides-Extra: test'):
        assert f'{line}\n' in metadata


def test_source_distribution_can_build_the_same(built):
    with tarfile.open(next(built.glob('dist/*.tar.gz'))) as archive:
        names = {name.partition('/')[2] for name in archive.getnames()}
    assert {
        'setup.py',
        'model-index.yml',
        'LICENSE',
        'README.md',
        'tools/train.py',
        'tests/support/processes.py',
    } <= names
    assert {name for name in names if name.startswith('configs/') and '.' in name} == {
        f'configs/{name}' for name in files_below(ROOT / 'configs')
    }
    assert not [name for name in names if '.mim' in name]


def test_editable_installation_links_to_the_source(built):
    mim = built / 'mocox' / '.mim'
    assert (mim / 'configs').resolve() == built / 'configs'
    assert (mim / 'tools').resolve() == built / 'tools'
    assert (mim / 'model-index.yml').resolve() == built / 'model-index.yml'
    assert '/.mim/' in (ROOT / '.gitignore').read_text()


@pytest.mark.parametrize('order', [('mocox', 'mmengine.config'), ('mmengine.config', 'mocox')])
@pytest.mark.parametrize('kind', ['installed', 'built'])
def test_configs_are_found_by_package_name(request, tmp_path, kind, order):
    folder = request.getfixturevalue(kind)
    path = tmp_path / 'mine.py'
    path.write_text("_base_ = ['mocox::mocov3/vit-small.py']\ntrain_cfg = dict(max_epochs=7)\n")
    output = run(USE.format(first=order[0], second=order[1], path=str(path)), tmp_path, folder)
    assert str(folder) in output


@pytest.mark.slow
def test_command_of_an_installed_wheel_in_an_empty_folder(built, tmp_path):
    """As pip installs it, without the network and without what it requires."""
    site, empty = tmp_path / 'site', tmp_path / 'empty'
    empty.mkdir()
    (sdist,), (wheel,) = built.glob('dist/*.tar.gz'), built.glob('dist/*0-py3-none-any.whl')
    pip = [sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-index', '--no-build-isolation', '--target']
    subprocess.run([*pip, site, wheel], check=True, cwd=empty)
    subprocess.run([*pip, tmp_path / 'from_source', sdist], check=True, cwd=empty)
    assert files_below(tmp_path / 'from_source' / 'mocox') == files_below(site / 'mocox')
    env = {'PATH': '/usr/bin:/bin', 'HOME': str(empty), 'PYTHONPATH': str(site)}

    def mocox(*arguments: str) -> str:
        command = [sys.executable, site / 'bin' / 'mocox', *arguments]
        done = subprocess.run(command, cwd=empty, env=env, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert 'mocov3/vit-small_custom.py' in mocox('configs', 'list')
    assert '--data-root' in mocox('demo', '--help')
    assert "arch='small'" in mocox('configs', 'print', 'mocov3/vit-small_custom.py')


def test_metadata_says_who_and_where(installed):
    folder = installed / 'mocox-0.1.0.dist-info'
    metadata = (folder / 'METADATA').read_text()
    assert 'Author: The mocox authors\n' in metadata
    assert 'Project-URL: MoCo v3, https://arxiv.org/abs/2104.02057\n' in metadata
    assert 'mocox = mocox.__main__:main' in (folder / 'entry_points.txt').read_text()


def test_the_parent_folder_of_a_clone_does_not_hide_the_package(built, tmp_path):
    """A clone is a folder called as the package, and without ``__init__.py``: Python takes it for a namespace."""
    clone = tmp_path / 'mocox'
    clone.symlink_to(built)
    site = tmp_path / 'site'
    zipfile.ZipFile(next(built.glob('dist/*editable*.whl'))).extractall(site)
    code = f'import site; site.addsitedir({str(site)!r}); import mocox; print(mocox.__version__, mocox.__file__)'
    without_installation = ('-S',)  # of this environment, whose own path to the package would come first
    assert run(code, tmp_path, options=without_installation).split() == ['0.1.0', str(built / 'mocox' / '__init__.py')]


def test_tools_run_from_an_installed_wheel(installed, tmp_path):
    tool = installed / 'mocox' / '.mim' / 'tools' / 'train.py'
    code = f"import runpy, sys; sys.argv[1:] = ['--help']; runpy.run_path({str(tool)!r}, run_name='__main__')"
    assert '--data-root' in run(code, tmp_path, installed)


def test_import_is_light():
    code = "import sys, mocox; print(mocox.__version__, {'torch', 'mmengine', 'numpy'} & set(sys.modules))"
    assert run(code, ROOT, ROOT).strip() == '0.1.0 set()'


def names_of(requirements) -> set[str]:
    return {re.split(r'[<>=!;\[ ]', line)[0] for line in requirements}


def test_the_fork_of_the_stack_comes_with_everything_else():
    """requirements/onedl.txt is written by hand, since the fork must not be beside what it replaces."""
    tree = ast.parse((ROOT / 'setup.py').read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    call = next(node for node in calls if getattr(node.func, 'id', '') == 'setup')
    listed = {keyword.arg: keyword.value for keyword in call.keywords}
    needed = names_of(ast.literal_eval(listed['install_requires']) + ast.literal_eval(listed['extras_require'])['test'])
    replaced = {'mmengine', 'mmcv-lite', 'mmpretrain', 'ruff', 'mypy'}
    lines = (ROOT / 'requirements' / 'onedl.txt').read_text().splitlines()
    given = names_of(line for line in lines if line and not line.startswith('#'))
    assert given == needed - replaced | {'onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain'}


# The first versions without a weakness that concerns what mocox does with them; SECURITY.md says which.
MENDED = {
    'torch': '2.10', 'pillow': '13.0', 'jinja2': '3.1.6', 'setuptools': '78.1.1', 'scikit-learn': '1.5',
    'pydicom': '3.0.2', 'pillow-heif': '1.3', 'python-gdcm': '3.2.2',
}  # fmt: skip


def test_no_floor_lies_below_a_mended_version():
    found = {}
    for file in ('setup.py', 'requirements/onedl.txt'):
        for name, floor in re.findall(r'([\w-]+)>=([\d.]+)', (ROOT / file).read_text()):
            found.setdefault(name, set()).add(floor)
    numbers = lambda version: [int(part) for part in version.split('.')]  # noqa: E731
    for name, mended in MENDED.items():
        assert all(numbers(floor) >= numbers(mended) for floor in found[name]), (name, found[name])
