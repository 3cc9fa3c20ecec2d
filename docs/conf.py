"""The site of documents: ``sphinx-build -W docs OUT`` with ``pip install -e ".[docs]"``.

The pages are Markdown that reads as well without a site. Three things are made while building: the reference of the
commands from their parsers, that of the recipes from their docstrings, and links to files outside this folder, which
become copies of those files.
"""

import os
import re
import sys
from importlib import import_module
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ['COLUMNS'] = '100'  # argparse wraps at the width of a terminal

from mocox import __version__  # noqa: E402
from mocox.commands import SUMMARIES  # noqa: E402

project, author, copyright = 'mocox', 'The mocox authors', 'the mocox authors, Apache 2.0'
release = version = __version__
extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx_copybutton']
source_suffix = {'.md': 'myst-nb', '.ipynb': 'myst-nb', '.rst': 'restructuredtext'}
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = f'mocox {release}'
html_theme_options = {'sidebar_hide_name': False}
pygments_style, pygments_dark_style = 'friendly', 'github-dark'
copybutton_prompt_text = '$ '

myst_heading_anchors = 4
myst_enable_extensions = ['colon_fence', 'deflist']
suppress_warnings = ['myst.header']  # a page may begin below its title
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
autodoc_member_order = 'bysource'
autodoc_class_signature = 'mixed'
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True

nb_execution_mode = 'force'  # the tutorials are kept without outputs; -D nb_execution_mode=off leaves them so
nb_execution_raise_on_error = nb_execution_in_temp = nb_merge_streams = True
nb_execution_timeout = 600
nb_output_stderr = 'remove'

OUTSIDE = re.compile(r'\]\(((?:\.\./)+)([^)#]+)(#[^)]*)?\)')


def link_outside(app: Sphinx, page: str, source: list[str]) -> None:
    """Links to code and configs become links to copies of them, which the site brings along."""

    def replace(match: re.Match) -> str:
        target = (Path(app.srcdir, page).parent / match[1] / match[2]).resolve()
        if not target.exists():
            raise FileNotFoundError(f'docs/{page}.md links to {match[1]}{match[2]}, and there is no such file')
        if target.is_relative_to(app.srcdir) and target.suffix in source_suffix:
            return match[0]
        if target.is_relative_to(ROOT / 'configs') and (target.is_dir() or target.suffix == '.md'):
            return f']({Path(os.path.relpath(app.srcdir, Path(app.srcdir, page).parent), "reference/recipes.md")})'
        return f'](path:/{os.path.relpath(target, app.srcdir)})'

    source[0] = OUTSIDE.sub(replace, source[0])


def help_of(name: str) -> str:
    """What ``mocox NAME --help`` prints."""
    parser = import_module(f'mocox.commands.{name}').make_parser()
    parser.prog = f'mocox {name}'
    return parser.format_help().rstrip()


def write_commands(app: Sphinx) -> None:
    """docs/reference/commands.md."""
    page = ['# Commands', '', '`mocox COMMAND`, also `python -m mocox COMMAND`; most are files of `tools/` as well.']
    for name, summary in SUMMARIES.items():
        page += ['', f'## mocox {name}', '', f'{summary[0].upper()}{summary[1:]}.', '', '```text', help_of(name), '```']
    write(Path(app.srcdir, 'reference/commands.md'), page)


def write_recipes(app: Sphinx) -> None:
    """docs/reference/recipes.md: what the first lines of each recipe say."""
    page = ['# Recipes', '', 'Every file of `configs/`, as `mocox configs print NAME` and `mocox train NAME` take it.']
    for folder in ('mocov3', 'mocov2', 'mocov1', 'moby', 'fast_moco', 'benchmarks'):
        page += ['', f'## {folder}']
        for path in sorted((ROOT / 'configs' / folder).rglob('*.py')):
            said = re.match(r'"""(.*?)"""', path.read_text(encoding='utf-8'), re.DOTALL)
            page += [
                '',
                f'### {path.relative_to(ROOT / "configs")}',
                '',
                '```text',
                said[1].strip() if said else '',
                '```',
            ]
    write(Path(app.srcdir, 'reference/recipes.md'), page)


def write(path: Path, lines: list[str]) -> None:
    """Writes a page where it says something new: an equal one is not built again."""
    text = '\n'.join(lines) + '\n'
    if not path.exists() or path.read_text(encoding='utf-8') != text:
        path.write_text(text, encoding='utf-8')


def setup(app: Sphinx) -> None:
    """Sphinx's entry."""
    app.connect('builder-inited', write_commands)
    app.connect('builder-inited', write_recipes)
    app.connect('source-read', link_outside)
