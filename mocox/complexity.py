"""Parameters and operations of a recipe's model by part, on the meta device: nothing is computed."""

from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mocox.datasets import Pixels
from mocox.datasets.resizing import height_and_width
from mocox.models.algorithms import LinearProbe, MomentumContrast
from mocox.models.layout import last_output
from mocox.models.necks import average_positions
from mocox.recipe import Recipe


@dataclass(frozen=True)
class ModelPart:
    """A part of a model.

    Args:
        name: As the model calls it.
        kind: Its class.
        parameters: Numbers in it that are learned, or copied from what is learned.
        trained: Those that the optimizer changes.
        flops: Of one image, where a multiplication and an addition are two; None if the way to call it is unknown.
    """

    name: str
    kind: str
    parameters: int
    trained: int
    flops: int | None = None


def measure_parts(config: Config) -> tuple[list[ModelPart], tuple[int, int, int]]:
    """The parts of the model, and the (channels, height, width) of the images that ``flops`` are for.

    Its passes run on torch's device ``meta``, whose tensors have shapes and no numbers.

    Raises:
        ValueError: The config names no model, or no crops of a size.
    """
    recipe = Recipe(config)
    if not recipe.model:
        raise ValueError('the config has no model')
    size: Any = recipe.crops.get('size') or recipe.test_crops.get('size') or recipe.backbone.get('img_size')
    if size is None:
        raise ValueError('the config has no crops with a size, and its backbone no img_size: how large is an image?')
    channels = recipe.backbone.get('in_channels') or Pixels.from_settings(recipe.dataset).num_channels
    shape = (int(channels), *height_and_width(size))
    with DefaultScope.overwrite_default_scope(config.get('default_scope') or 'mocox'):
        settings = {'data_preprocessor': config.get('data_preprocessor'), **config.model}
        model = MODELS.build(settings).eval().to('meta')
    flops = _count(model, torch.zeros(1, *shape, device='meta'))
    return [
        ModelPart(name, type(part).__name__, _numbers(part), _numbers(part, trained=True), flops.get(name))
        for name, part in model.named_children()
        if any(True for _ in part.parameters())
    ], shape


def _numbers(module: nn.Module, trained: bool = False) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


def _count(model: nn.Module, image: Tensor) -> dict[str, int]:
    """Count the parts whose order of calls is known."""
    found: dict[str, int] = {}

    def counted(name: str, call: Any) -> Any:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            result = call()
        found[name] = counter.get_total_flops()
        return result

    backbone: Any = getattr(model, 'backbone', None)
    if backbone is None:
        return found
    features = counted('backbone', lambda: last_output(backbone(image), type(backbone).__name__))
    head: Any = getattr(model, 'head', None)
    if isinstance(model, MomentumContrast):
        projections = counted('neck', lambda: model.neck((features,))[-1])
        counted('head', lambda: projections if head.predictor is None else head.predictor((projections,)))
        found['momentum_encoder'] = found['backbone'] + found['neck']  # a copy of both
    elif isinstance(model, LinearProbe):
        counted('head', lambda: head((average_positions(features),)))
    return found
