"""mocox: Momentum Contrast (v1, v2, v3) on MMEngine.

Importing this package is cheap; components register themselves when MMEngine first looks into the scope ``mocox``.
"""

from mocox import compat
from mocox.version import __version__

__all__ = ['__version__']

compat.apply()
