"""``GridPooledResNet`` by name, without mmpretrain's import, which takes seconds, before one is built."""

import inspect
from typing import Any

from mmengine.model import BaseModule

from mocox.registry import MODELS


@MODELS.register_module(name='GridPooledResNet')
def grid_pooled_resnet(**settings: Any) -> BaseModule:
    """Build a :class:`mocox.models.backbones.grid_resnet.GridPooledResNet`.

    Raises:
        TypeError: It has no such argument.
    """
    from mocox.models.backbones.grid_resnet import GridPooledResNet

    known = {name for cls in GridPooledResNet.__mro__[:3] for name in inspect.signature(cls).parameters}
    if unknown := sorted(settings.keys() - known):
        names = ', '.join(sorted(known - {'args', 'kwargs'}))
        raise TypeError(f'GridPooledResNet has no argument {unknown[0]!r}; it takes {names}')
    return GridPooledResNet(**settings)
