"""Parameter names of the variants' official codes: patterns from our names to theirs, in order."""

import re
from collections.abc import Iterable

from torch import Tensor, nn

Patterns = list[tuple[str, str]]

_BLOCK = [
    (r'attn\.w_msa', r'attn'),
    (r'ffn\.layers\.0\.0', r'mlp.fc1'),
    (r'ffn\.layers\.1', r'mlp.fc2'),
    (r'patch_embed\.projection', r'patch_embed.proj'),
]
SWIN = [*_BLOCK, (r'backbone\.norm\d+', r'backbone.norm'), (r'stages\.', r'layers.')]
DEIT = [
    *_BLOCK,
    (r'backbone\.ln1', r'backbone.norm'),
    (r'layers\.(\d+)\.ln(\d)', r'layers.\1.norm\2'),
    (r'backbone\.layers', r'backbone.blocks'),
]
MOBY_ENCODERS = [
    (r'^momentum_encoder\.backbone', r'encoder_k'),
    (r'^momentum_encoder\.neck', r'projector_k'),
    (r'^backbone', r'encoder'),
    (r'^neck', r'projector'),
    (r'^head\.predictor', r'predictor'),
    (r'^queue_x1\.keys', r'queue1'),
    (r'^queue\.keys', r'queue2'),
    (r'^queue(_x1)?\.pointer', r'queue_ptr'),
]
SEQUENTIAL = [
    (r'backbone\.conv1', r'backbone.0'),
    (r'backbone\.bn1', r'backbone.1'),
    *((rf'backbone\.layer{i}', rf'backbone.{i + 3}') for i in range(1, 5)),
]
FAST_MOCO = [
    *SEQUENTIAL,
    (r'^head\.predictor\.fc1', r'predictor.layer2'),
    *((rf'(neck|predictor)\.fc{i}', rf'\1.linear{i + 1}') for i in range(3)),
    *((rf'(neck|predictor)\.bn{i}', rf'\1.bn{i + 1}') for i in (2, 1, 0)),
    (r'^momentum_encoder\.backbone', r'encoder_ema.0'),
    (r'^momentum_encoder\.neck', r'encoder_ema.1'),
    (r'^backbone', r'encoder.0'),
    (r'^neck', r'encoder.1'),
    (r'^head\.predictor', r'predictor'),
]
SOLO = [
    (r'^momentum_encoder\.backbone', r'momentum_backbone'),
    (r'^momentum_encoder\.neck\.mlp', r'momentum_projector'),
    (r'^neck\.mlp', r'projector'),
    (r'^queue(_x1)?\.pointer', r'queue_ptr'),
]


def moby_layers(num_layers: int) -> Patterns:
    """The layers of a head, of which the official code keeps the last apart."""
    last = [(rf'\.fc{num_layers - 1}\.', r'.linear_out.')]
    hidden = [(rf'\.fc{i}\.', rf'.linear_hidden.{3 * i + 1}.') for i in range(num_layers - 1)]
    norms = [(rf'\.bn{i}\.', rf'.linear_hidden.{3 * i + 2}.') for i in range(num_layers - 1)]
    return last + hidden + norms


def rename(key: str, patterns: Iterable[tuple[str, str]]) -> str:
    """The official name of one of our tensors."""
    for pattern, replacement in patterns:
        key = re.sub(pattern, replacement, key)
    return key


def merge_to_official(key: str, tensor: Tensor) -> Tensor:
    """Swin merges four patches: in our order, of ``nn.Unfold``, channels come first; in the official one, patches."""
    if not _merges(key):
        return tensor
    return tensor.unflatten(-1, (-1, 2, 2)).movedim(-3, -1).transpose(-3, -2).flatten(-3)


def merge_to_ours(key: str, tensor: Tensor) -> Tensor:
    """The inverse of :func:`merge_to_official`."""
    if not _merges(key):
        return tensor
    return tensor.unflatten(-1, (2, 2, -1)).transpose(-3, -2).movedim(-1, -3).flatten(-3)


def _merges(key: str) -> bool:
    return '.downsample.norm.' in key or '.downsample.reduction.' in key


def load_renamed(
    model: nn.Module, official: dict[str, Tensor], patterns: Patterns, ignored: str, prefix: str = 'module.'
) -> None:
    """Load an official state; every tensor of both sides must find the other.

    Raises:
        ValueError: Tensors without a counterpart.
    """
    theirs = {key: prefix + rename(key, patterns) for key in model.state_dict() if not key.endswith('.filled')}
    missing = set(theirs.values()) - set(official)
    unused = {key for key in set(official) - set(theirs.values()) if not re.fullmatch(ignored, key)}
    if missing or unused:
        raise ValueError(f'initial state: no {sorted(missing)}, and no use for {sorted(unused)}')
    model.load_state_dict({ours: merge_to_ours(ours, official[key]) for ours, key in theirs.items()})


def renamed_state(state: dict[str, Tensor], patterns: Patterns, prefix: str = 'module.') -> dict[str, Tensor]:
    """A model's state in the official naming."""
    state = {key: tensor for key, tensor in state.items() if not key.endswith('.filled')}
    return {prefix + rename(k, patterns): merge_to_official(k, tensor) for k, tensor in state.items()}
