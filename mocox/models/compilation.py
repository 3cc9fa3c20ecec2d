"""``torch.compile`` for the repeated blocks of a backbone."""

import torch
from torch import nn

RECOMPILE_LIMIT = 64  # the blocks of a ResNet-50 share their code and have 8 shapes, with and without gradient


def compile_blocks(backbone: nn.Module, options: bool | dict) -> int:
    """Compile each repeated block in place, when it first runs; everything around the blocks stays eager.

    The blocks of a transformer are one piece of code with one shape, so they are compiled once and not twelve times.
    Names and state dict stay what they are. A copy of the backbone is not compiled.

    Args:
        backbone: What to compile the blocks of.
        options: True, or keyword arguments of ``torch.compile`` such as ``dict(mode='max-autotune-no-cudagraphs')``.

    Returns:
        The number of blocks.

    Raises:
        TypeError: ``options`` is neither.
        ValueError: The backbone has no such blocks.
    """
    if not isinstance(options, bool | dict):
        raise TypeError(f'compile={options!r}: give True, False or a dict of arguments of torch.compile')
    if options is False:
        return 0
    blocks = repeated_blocks(backbone)
    if not blocks:
        raise ValueError(f'compile: {type(backbone).__name__} has no list of blocks that could be compiled one by one')
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, RECOMPILE_LIMIT)
    for block in blocks:
        block.compile(**({} if options is True else options))
    return len(blocks)


def repeated_blocks(backbone: nn.Module) -> list[nn.Module]:
    """The innermost modules with parts of their own that stand in a list: a transformer's blocks, a ResNet's units."""
    containers = (nn.Sequential, nn.ModuleList)
    listed = [child for m in backbone.modules() if isinstance(m, containers) for child in m.children()]
    blocks = {m: None for m in listed if not isinstance(m, containers) and any(True for _ in m.children())}
    return [m for m in blocks if not any(part in blocks for part in m.modules() if part is not m)]
