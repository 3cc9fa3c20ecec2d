"""Find and open a config.

The configs that come with the package lie beside it in a clone, and inside it in an installed wheel.
"""

import ast
import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config


def open_config(path: 'str | Path | Config') -> 'Config':
    """Read a config; an open one is returned unchanged.

    Args:
        path: A file; one that came with the package, such as ``mocov3/vit-small.py``, with or without ``configs/``
            before it; or ``mocox::FOLDER/NAME.py`` as MMEngine's hub reads it.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A file of another kind; JSON or YAML of more than plain values.
    """
    from mmengine.config import Config

    if isinstance(path, Config):
        return path
    if '::' in str(path):
        from mmengine.hub import get_config

        return get_config(str(path))
    path = find_config(path)
    if Path(path).suffix not in ('.py', '.json', '.yaml', '.yml'):
        raise ValueError(f'{path} is not a config (.py, .json, .yaml, .yml), such as configs/mocov3/vit-small.py')
    if Path(path).suffix == '.py':
        return Config.fromfile(path)
    from yaml import YAMLError

    try:
        return Config.fromfile(path)
    except (YAMLError, ValueError, AttributeError, RecursionError) as error:  # AttributeError: a list, or a number
        reason = str(error).encode('unicode_escape').decode()[:300]
        raise ValueError(f'{path} is not a mapping of plain values, as YAML and JSON configs are ({reason})') from error


def find_config(path: str | Path) -> Path:
    """The file of a config: the one of that name, else the one that came with the package.

    Raises:
        FileNotFoundError: There is neither; names those that are called similarly.
    """
    if Path(path).is_file():
        return Path(path)
    name = Path(path).as_posix().removeprefix('configs/')
    if not Path(name).is_absolute() and '..' not in Path(name).parts:
        for candidate in (name, f'{name}.py'):
            if (config_folder() / candidate).is_file():
                return config_folder() / candidate
    known = list(shipped_configs())
    nearest = [*(other for other in known if Path(other).name == name), *difflib.get_close_matches(name, known, n=2)]
    hint = (
        f'; did you mean {" or ".join(nearest[:2])}?'
        if nearest
        else ': mocox configs list names those that came with mocox'
    )
    raise FileNotFoundError(f'there is no config file {path}{hint}')


def shipped_configs() -> dict[str, str]:
    """The recipes that came with the package: the first sentence of each by its path below ``configs``."""
    folder = config_folder()
    found = {}
    for path in sorted(folder.rglob('*.py')):
        if '_base_' not in path.parts:
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
            found[path.relative_to(folder).as_posix()] = docstring.partition('\n')[0]
    return found


def config_folder() -> Path:
    """The folder ``configs``.

    Raises:
        FileNotFoundError: There is none.
    """
    package = Path(__file__).parent
    for folder in (package.parent / 'configs', package / '.mim' / 'configs'):
        if (folder / '_base_').is_dir():
            return folder
    raise FileNotFoundError(f'there are no configs beside or in {package}: install mocox again')


def shipped_config(name: str) -> Path:
    """A config by its path below ``configs``.

    Raises:
        FileNotFoundError: There is none of that name.
    """
    path = config_folder() / name
    if not path.is_file():
        raise FileNotFoundError(f'there is no {path}: install mocox again')
    return path


def published_models() -> list[dict[str, Any]]:
    """The entries of every ``metafile.yml`` that have a published number, each with the ``Paper`` of its collection."""
    import yaml

    found = []
    for path in sorted(config_folder().glob('*/metafile.yml')):
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
        papers = {collection['Name']: collection.get('Paper') for collection in content['Collections']}
        found += [{**model, 'Paper': papers[model['In Collection']]} for model in content['Models'] if model['Results']]
    return found
