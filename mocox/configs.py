"""Finding a config and opening it.

The configs that come with the package lie beside it in a clone, and inside it in an installed wheel.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config


def open_config(path: 'str | Path | Config') -> 'Config':
    """Reads a config; one that is open already comes back as it is.

    Args:
        path: A file, or ``mocox::FOLDER/NAME.py`` as MMEngine's hub reads it.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A file of another kind.
    """
    from mmengine.config import Config

    if isinstance(path, Config):
        return path
    if '::' in str(path):
        from mmengine.hub import get_config

        return get_config(str(path))
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no config file {path}')
    if Path(path).suffix not in ('.py', '.json', '.yaml', '.yml'):
        raise ValueError(f'{path} is no config (.py, .json, .yaml, .yml), such as configs/mocov3/vit-small.py')
    return Config.fromfile(path)


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
