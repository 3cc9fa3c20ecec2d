"""The algorithms, and the linear probe that evaluates them."""

from mocox.models.algorithms.base import MomentumContrast
from mocox.models.algorithms.fast_moco import FastMoCo
from mocox.models.algorithms.linear_probe import LinearProbe
from mocox.models.algorithms.moby import MoBY
from mocox.models.algorithms.moco import MoCo
from mocox.models.algorithms.mocov3 import MoCoV3

__all__ = ['FastMoCo', 'LinearProbe', 'MoBY', 'MoCo', 'MoCoV3', 'MomentumContrast']
