"""Names of DINOv2 and DINOv3 that differ from timm's, and the meaning of their parts."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_MLP = {'mlp.w12.': 'mlp.fc1.', 'mlp.w1.': 'mlp.fc1_g.', 'mlp.w2.': 'mlp.fc1_x.', 'mlp.w3.': 'mlp.fc2.'}
_BUFFERS = re.compile(r'rope_embed\.periods|blocks\.\d+\.attn\.qkv\.bias_mask|local_cls_norm\.(weight|bias)')
_SCALE = re.compile(r'(blocks\.\d+\.)(?:ls(\d)\.gamma|gamma_(\d))')


def to_timm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename tensors from the official names to timm's; all others keep their names.

    DINOv2 keeps blocks in chunks while it trains (``blocks.0.3`` for block 3), and where it has registers it adds a
    position to the class token, which timm has added already. DINOv3 has no bias in its keys.
    """
    in_chunks = 'cls_token' in tensors  # a ConvNet of timm has stages of blocks of that name
    found = {_unchunked(key) if in_chunks else key: tensor for key, tensor in tensors.items()}
    for theirs, ours in _MLP.items():
        found = {key.replace(theirs, ours): tensor for key, tensor in found.items()}
    if 'register_tokens' in found and 'pos_embed' in found:
        positions = found['pos_embed']
        found |= dict(cls_token=found['cls_token'] + positions[:, :1], pos_embed=positions[:, 1:])
    if is_dinov3(found):
        found = _dinov3(found)
    renamed = dict(register_tokens='reg_token', storage_tokens='reg_token')
    return {renamed.get(key, key): tensor for key, tensor in found.items()}


def is_dinov3(names: Mapping) -> bool:
    """True for tensors of a DINOv3 transformer: it has registers, and rotary positions instead of a table."""
    registers = not names.keys().isdisjoint(('storage_tokens', 'register_tokens', 'reg_token'))
    return registers and 'cls_token' in names and 'pos_embed' not in names


def _unchunked(key: str) -> str:
    return re.sub(r'^blocks\.\d+\.(\d+)\.', r'blocks.\1.', key)


def _dinov3(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        key = re.sub(r'\.ls(\d)\.gamma$', r'.gamma_\1', key)
        if any('mlp.fc1_g.' in name for name in tensors):
            key = key.replace('mlp.fc1.', 'mlp.fc1_x.')  # transformers calls it up_proj, gated or not
        if key.endswith('attn.qkv.bias'):
            masked = f'{key}_mask' in tensors  # by which the official code multiplies it
            found |= _biases(key.removesuffix('qkv.bias'), tensor, masked)
        elif not _BUFFERS.fullmatch(key):
            found[key] = tensor
    return found


def _biases(start: str, bias: Tensor, masked: bool) -> dict[str, Tensor]:
    q, k, v = bias.chunk(3)
    kept = {f'{start}q_bias': q, f'{start}v_bias': v}
    return kept if masked or not k.any() else {**kept, f'{start}k_bias': k}


def without_zero_biases(tensors: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop biases of queries and values that are all zero, where a module has none: timm builds both kinds."""
    unused = [k for k in tensors if k.endswith(('attn.q_bias', 'attn.v_bias')) and k not in target]
    return (
        dict(tensors) if any(tensors[k].any() for k in unused) else {k: tensors[k] for k in tensors if k not in unused}
    )


def fold_layer_scale(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fold LayerScale into the preceding layers, which gives the same features without it."""
    found = dict(tensors)
    for key in tensors:
        if match := _SCALE.fullmatch(key):
            layer = match[1] + {'1': 'attn.proj', '2': 'mlp.fc2'}[match[2] or match[3]]
            gamma = found.pop(key)
            for name in (f'{layer}.weight', f'{layer}.bias'):
                if name in found:
                    found[name] = torch.einsum('o...,o->o...', found[name], gamma)
    return found


def has_layer_scale(names: Mapping) -> bool:
    """True if a transformer has LayerScale."""
    return any(_SCALE.fullmatch(key) for key in names)
