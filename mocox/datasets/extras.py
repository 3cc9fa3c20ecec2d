"""Libraries that only some users need, named with their install line where they are missing."""

import importlib
from types import ModuleType


class MissingExtraError(ImportError):
    """A file that cannot be read before something is installed."""


def require_extra(library: str, need: str, extra: str) -> ModuleType:
    """Imports what only some users need; ``need`` begins the message that says how to install it.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise MissingExtraError(f'{need} {library}, which is not installed: pip install "mocox[{extra}]"') from error
