"""The shipped configs, each parsed once and each model built once on the meta device."""

from functools import cache
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn
from torch.overrides import TorchFunctionMode

from mocox.registry import MODELS

ROOT = Path(__file__).parents[2]
LEAVES = sorted(
    p.relative_to(ROOT).as_posix()
    for p in (ROOT / 'configs').rglob('*.py')
    if not {'_base_', 'benchmarks'} & set(p.parts)  # benchmarks: tests/test_benchmarks
)
# configs/benchmarks evaluates in other ways; the rest pre-trains, or is the linear evaluation that belongs to it
METHODS = [name for name in LEAVES if not name.startswith('configs/benchmarks/')]
PRETRAINING = [name for name in METHODS if not name.endswith('_linear.py')]
LINEAR = [name for name in METHODS if name.endswith('_linear.py')]


@cache
def load(name: str) -> Config:
    """The config after inheritance; shared between tests, so copy it before changing it."""
    return Config.fromfile(ROOT / name)


def model_config(cfg: Config) -> dict:
    """The model's config with its data preprocessor, merged as the Runner does."""
    model = cfg.model.to_dict()
    if 'data_preprocessor' in cfg:
        model.setdefault('data_preprocessor', cfg.data_preprocessor.to_dict())
    return model


class LinspaceOnCPU(TorchFunctionMode):
    """mmpretrain's ResNet reads its drop-path rates, made by ``torch.linspace``, back as numbers."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}) | (dict(device='cpu') if func is torch.linspace else {}))


def build_on_meta(model: dict) -> nn.Module:
    """The whole model without memory for its weights."""
    with DefaultScope.overwrite_default_scope('mocox'), torch.device('meta'), LinspaceOnCPU():
        return MODELS.build(model)


@cache
def build(name: str) -> nn.Module:
    """The model of a config on the meta device; shared between tests, which only look at it."""
    return build_on_meta(model_config(load(name)))
