"""mocox: Momentum Contrast (v1, v2, v3) on MMEngine.

Importing this package is cheap; components register themselves when MMEngine first looks into the scope ``mocox``.
"""

from typing import Any

from mocox import compat
from mocox.version import __version__

__all__ = ['FeatureExtractor', '__version__', 'extract_features']

compat.apply()


def __getattr__(name: str) -> Any:
    """Imports what needs torch when it is first asked for."""
    if name in ('FeatureExtractor', 'extract_features'):
        from mocox.evaluation import inference

        return getattr(inference, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
