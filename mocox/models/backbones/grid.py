"""``GridPooledResNet`` by name, without mmpretrain's import, which takes seconds, before one is built."""

from typing import Any

from mmengine.model import BaseModule

from mocox.registry import MODELS


@MODELS.register_module(name='GridPooledResNet')
def grid_pooled_resnet(**settings: Any) -> BaseModule:
    """Build a :class:`mocox.models.backbones.grid_resnet.GridPooledResNet`."""
    from mocox.models.backbones.grid_resnet import GridPooledResNet

    return GridPooledResNet(**settings)
