"""The configs that come with the package: in a clone they lie beside it, in an installed wheel inside it."""

from pathlib import Path


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
