"""The parts of a model: given as modules or as configs, and the width by which one fits the next."""

import inspect
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mocox.models.layout import last_output, require_layout
from mocox.models.necks import average_positions
from mocox.registry import MODELS

SIDES = (224, 32, 64, 96, 128, 256, 384)  # pixels, tried where the backbone does not say its own


def build_part(part: dict | nn.Module) -> nn.Module:
    """Return a module unchanged, already initialised, or build one from a config."""
    if not isinstance(part, nn.Module):
        return MODELS.build(part)
    for child in part.modules():  # MMEngine would call init_weights of each and draw trained weights anew
        if hasattr(child, 'init_weights') and not getattr(child, 'init_cfg', None):
            setattr(child, '_is_init' if hasattr(type(child), 'is_init') else 'is_init', True)
    return part


def build_on(backbone: nn.Module, part: dict | nn.Module) -> nn.Module:
    """Like :func:`build_part`, for a part on top of a backbone: ``in_channels`` may be left out.

    Args:
        backbone: That gives the features.
        part: A neck or a head, or the config of one.
    """
    if isinstance(part, nn.Module) or 'in_channels' in part:
        return build_part(part)
    scope, kind = part.get('_scope_'), part.get('type')
    found = MODELS.get(f'{scope}.{kind}' if scope else kind) if isinstance(kind, str) else kind
    if found is None or 'in_channels' not in inspect.signature(found).parameters:
        return MODELS.build(part)
    return MODELS.build(dict(part, in_channels=feature_width(backbone)))


def feature_width(backbone: nn.Module) -> int:
    """The number of channels that a backbone gives.

    Found by a pass in evaluation mode on the meta device, which knows shapes and computes nothing; where the backbone
    cannot do that, on its own device. Weights, statistics and random numbers stay as they are.

    Args:
        backbone: Takes images (B, C, S, S).

    Raises:
        ValueError: It takes images of no usual size, or gives features of another kind.
    """
    own: Tensor = next(backbone.parameters(), torch.empty(0))
    meta = {name: torch.empty_like(t, device='meta') for name, t in _tensors(backbone)}
    modes = {module: module.training for module in backbone.modules()}
    reason: Exception | None = None
    try:
        backbone.eval()
        for device in dict.fromkeys((torch.device('meta'), own.device)):
            for side in _sides(backbone):
                shape = (2, _image_channels(backbone), side, side)
                images = torch.zeros(shape, device=device, dtype=own.dtype)
                try:
                    with torch.no_grad():
                        output = functional_call(backbone, meta if device.type == 'meta' else {}, (images,))
                except Exception as error:  # of a stranger's module: too small an image, no meta tensors, ...
                    reason = reason or error
                    continue
                name = type(backbone).__name__
                return average_positions(require_layout(last_output(output, name), images, name)).shape[1]
    finally:
        for module, mode in modes.items():
            module.training = mode
    sides = ', '.join(map(str, _sides(backbone)))
    raise ValueError(
        f'{type(backbone).__name__}: no image of {sides} pixels could be passed through it to find the width of its '
        f'features ({type(reason).__name__}: {reason}). Set in_channels of the neck or head'
    )


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _image_channels(backbone: nn.Module) -> int:
    first = next((module for module in backbone.modules() if isinstance(module, nn.Conv2d)), None)
    return 3 if first is None else first.in_channels


def _sides(backbone: nn.Module) -> list[int]:
    """Sides of images to try: what the backbone or its patch projection says, then usual ones."""
    said = [getattr(m, name, None) for m in backbone.modules() for name in ('img_size', 'image_size')]
    sides = [side[0] if isinstance(side, tuple | list) and side else side for side in said]
    return list(dict.fromkeys([*(s for s in sides if isinstance(s, int) and s > 0), *SIDES]))
