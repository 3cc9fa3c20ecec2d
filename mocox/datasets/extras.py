"""Optional libraries; a missing one is reported with its install command."""

import importlib
from types import ModuleType


class MissingExtraError(ImportError):
    """Error for a file that needs a library that is not installed."""


def require_extra(library: str, need: str, extra: str) -> ModuleType:
    """Import an optional library; ``need`` begins the message that says how to install it.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise MissingExtraError(f'{need} {library}, which is not installed: pip install "mocox[{extra}]"') from error
