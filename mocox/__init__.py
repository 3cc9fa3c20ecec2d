"""mocox: Momentum Contrast (v1, v2, v3) on MMEngine.

Importing this package is cheap; components register themselves when MMEngine first looks into the scope ``mocox``.
"""

from importlib import import_module
from typing import Any

from mocox import compat
from mocox.version import __version__

__all__ = ['FeatureExtractor', '__version__', 'evaluate', 'extract_features', 'features', 'load', 'predict', 'pretrain']
_PLACES = {
    'FeatureExtractor': 'mocox.evaluation.inference',
    'evaluate': 'mocox.evaluation.realms',
    'extract_features': 'mocox.evaluation.inference',
    'features': 'mocox.api',
    'load': 'mocox.api',
    'predict': 'mocox.evaluation.prediction',
    'pretrain': 'mocox.api',
}

compat.apply()


def __getattr__(name: str) -> Any:
    """Import modules that need torch on first access."""
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
