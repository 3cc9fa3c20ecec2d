"""Answer MMEngine's and MMCV's questions about installed packages with today's Python and setuptools."""

import importlib.util
import pkgutil
import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType, SimpleNamespace


def ask_importlib(module: ModuleType) -> None:
    """Let MMEngine ask ``importlib.metadata`` for a package instead of ``pkg_resources``.

    For: MMEngine 0.10.7. setuptools 82 no longer has ``pkg_resources``, and without it no config that names another
    library's can be read, and no optimizer built. Three functions ask, other modules hold them under the same names.
    Delete when: MMEngine no longer imports ``pkg_resources``.
    """
    if 'pkg_resources' not in module.is_installed.__code__.co_names:
        return
    for ours in (is_installed, get_installed_path, package2module):
        name = ours.__name__
        before = getattr(module, name)
        for key, other in list(sys.modules.items()):
            if key.startswith(('mmengine', 'mmcv', 'mmpretrain')) and vars(other).get(name) is before:
                setattr(other, name, ours)


def is_installed(package: str) -> bool:
    """True if a distribution, or else a module, of this name exists."""
    try:
        distribution(package)
    except PackageNotFoundError:
        spec = importlib.util.find_spec(package)
        return spec is not None and spec.origin is not None
    return True


def get_installed_path(package: str) -> str:
    """The folder of a package, by the name of its distribution or of its module."""
    try:
        found = distribution(package)
    except PackageNotFoundError:
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise
        if spec.origin is None:
            raise RuntimeError(f'{package} is a namespace package, which has no folder of its own') from None
        return str(Path(spec.origin).parent)
    folder = Path(str(found.locate_file('')))
    return str(folder / package if (folder / package).exists() else folder / _module_of(found, package))


def package2module(package: str) -> str:
    """The name of the module that a distribution brings."""
    return _module_of(distribution(package), package)


def _module_of(found: Distribution, package: str) -> str:
    names = (found.read_text('top_level.txt') or '').split()
    if not names:
        raise ValueError(f'can not infer the module name of {package}')
    return names[0]


def find_without_loader(module: ModuleType) -> None:
    """Give a module that calls ``pkgutil.find_loader`` a stand-in for it.

    For: MMEngine 0.10.7 and MMCV 2.2.0 on Python 3.14, which no longer has it: no ``Runner`` could be built. Nothing
    else of ``pkgutil`` is used in these modules.
    Delete when: neither calls it.
    """
    if not hasattr(pkgutil, 'find_loader') and getattr(module, 'pkgutil', None) is pkgutil:
        module.pkgutil = SimpleNamespace(find_loader=find_spec)  # type: ignore[attr-defined]


def find_spec(name: str) -> ModuleSpec | None:
    """Something, or None if it is missing; callers only compare with None."""
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError:  # its package is not there
        return None
