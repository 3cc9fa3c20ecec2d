"""Tensor names of backbones in other projects.

Inside mocox a vision transformer has timm's names and a ResNet torchvision's (``BACKBONES``, first column).
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache

import torch
from torch import Tensor

from mocox.checkpoint.dino import to_timm

NAMINGS = ('timm', 'mmpretrain', 'mmseg', 'transformers', 'torchvision')
_HF = 'encoder.layer.N.attention.attention.'
_TV = 'encoder.layers.encoder_layer_N.'
# One row per tensor or module of a ViT, one column per naming; N stands for the block, three names for q, k and v.
_VIT = (
    ('cls_token', 'cls_token', 'cls_token', 'embeddings.cls_token', 'class_token'),
    ('pos_embed', 'pos_embed', 'pos_embed', 'embeddings.position_embeddings', 'encoder.pos_embedding'),
    (
        'patch_embed.proj',
        'patch_embed.projection',
        'patch_embed.projection',
        'embeddings.patch_embeddings.projection',
        'conv_proj',
    ),
    ('blocks.N.norm1', 'layers.N.ln1', 'layers.N.ln1', 'encoder.layer.N.layernorm_before', _TV + 'ln_1'),
    (
        'blocks.N.attn.qkv.weight',
        'layers.N.attn.qkv.weight',
        'layers.N.attn.attn.in_proj_weight',
        (_HF + 'query.weight', _HF + 'key.weight', _HF + 'value.weight'),
        _TV + 'self_attention.in_proj_weight',
    ),
    (
        'blocks.N.attn.qkv.bias',
        'layers.N.attn.qkv.bias',
        'layers.N.attn.attn.in_proj_bias',
        (_HF + 'query.bias', _HF + 'key.bias', _HF + 'value.bias'),
        _TV + 'self_attention.in_proj_bias',
    ),
    (
        'blocks.N.attn.proj',
        'layers.N.attn.proj',
        'layers.N.attn.attn.out_proj',
        'encoder.layer.N.attention.output.dense',
        _TV + 'self_attention.out_proj',
    ),
    ('blocks.N.norm2', 'layers.N.ln2', 'layers.N.ln2', 'encoder.layer.N.layernorm_after', _TV + 'ln_2'),
    (
        'blocks.N.mlp.fc1',
        'layers.N.ffn.layers.0.0',
        'layers.N.ffn.layers.0.0',
        'encoder.layer.N.intermediate.dense',
        _TV + 'mlp.0',
    ),
    (
        'blocks.N.mlp.fc2',
        'layers.N.ffn.layers.1',
        'layers.N.ffn.layers.1',
        'encoder.layer.N.output.dense',
        _TV + 'mlp.3',
    ),
    ('norm', 'ln1', 'ln1', 'layernorm', 'encoder.ln'),
)
Row = tuple[str, str | tuple[str, ...]]
BACKBONES: dict[str, tuple[Row, ...]] = {
    name: tuple((row[0], row[i]) for row in _VIT) for i, name in enumerate(NAMINGS)
}
# In memory since transformers 5, and in files written with torch.save.
_QKV = ('q_proj', 'k_proj', 'v_proj')
BACKBONES['transformers 5'] = (
    ('cls_token', 'embeddings.cls_token'),
    ('pos_embed', 'embeddings.position_embeddings'),
    ('patch_embed.proj', 'embeddings.patch_embeddings.projection'),
    ('blocks.N.norm1', 'layers.N.layernorm_before'),
    *(
        (f'blocks.N.attn.qkv.{leaf}', tuple(f'layers.N.attention.{part}.{leaf}' for part in _QKV))
        for leaf in ('weight', 'bias')
    ),
    ('blocks.N.attn.proj', 'layers.N.attention.o_proj'),
    ('blocks.N.norm2', 'layers.N.layernorm_after'),
    ('blocks.N.mlp', 'layers.N.mlp'),
    ('norm', 'layernorm'),
)


def _dinov2(qkv: str, parts: tuple[str, ...], proj: str, swiglu: tuple) -> tuple:
    return (
        ('cls_token', 'embeddings.cls_token'),
        ('mask_token', 'embeddings.mask_token'),
        ('register_tokens', 'embeddings.register_tokens'),
        ('pos_embed', 'embeddings.position_embeddings'),
        ('patch_embed.proj', 'embeddings.patch_embeddings.projection'),
        *(
            (f'blocks.N.attn.qkv.{leaf}', tuple(f'encoder.layer.N.{qkv}.{part}.{leaf}' for part in parts))
            for leaf in ('weight', 'bias')
        ),
        ('blocks.N.attn.proj', f'encoder.layer.N.{proj}'),
        *((f'blocks.N.ls{i}.gamma', f'encoder.layer.N.layer_scale{i}.lambda1') for i in (1, 2)),
        *((f'blocks.N.{part}', f'encoder.layer.N.{part}') for part in ('norm1', 'norm2', 'mlp.fc1', 'mlp.fc2')),
        *swiglu,
        ('norm', 'layernorm'),
    )


def _dinov3(start: str) -> tuple:
    layer = f'{start}layer.N.'
    return (
        ('cls_token', 'embeddings.cls_token'),
        ('mask_token', 'embeddings.mask_token'),
        ('reg_token', 'embeddings.register_tokens'),
        ('patch_embed.proj', 'embeddings.patch_embeddings'),
        *((f'blocks.N.{part}', layer + part) for part in ('norm1', 'norm2')),
        ('blocks.N.attn.qkv.weight', tuple(f'{layer}attention.{part}.weight' for part in _QKV)),
        *((f'blocks.N.attn.{part}_bias', f'{layer}attention.{part}_proj.bias') for part in ('q', 'k', 'v')),
        ('blocks.N.attn.proj', f'{layer}attention.o_proj'),
        *((f'blocks.N.gamma_{i}', f'{layer}layer_scale{i}.lambda1') for i in (1, 2)),
        ('blocks.N.mlp.fc1_g', f'{layer}mlp.gate_proj'),
        ('blocks.N.mlp.fc1', f'{layer}mlp.up_proj'),
        ('blocks.N.mlp.fc2', f'{layer}mlp.down_proj'),
    )


def _dinov3_convnext(start: str) -> tuple:
    parts = (('conv_dw', 'depthwise_conv'), ('norm', 'layer_norm'), ('gamma', 'gamma'))
    layers = (*parts, ('mlp.fc1', 'pointwise_conv1'), ('mlp.fc2', 'pointwise_conv2'))
    return (
        *((f'stages.{i}.blocks.N.{ours}', f'{start}stages.{i}.layers.N.{t}') for i in range(4) for ours, t in layers),
        ('stem', f'{start}stages.0.downsample_layers'),
        *((f'stages.{i}.downsample', f'{start}stages.{i}.downsample_layers') for i in (1, 2, 3)),
        ('head.norm', 'layer_norm'),
    )


_ATTENTION = ('attention.attention', ('query', 'key', 'value'), 'attention.output.dense')
BACKBONES['transformers dinov2'] = _dinov2(
    *_ATTENTION,
    (('blocks.N.mlp.fc1', 'encoder.layer.N.mlp.weights_in'), ('blocks.N.mlp.fc2', 'encoder.layer.N.mlp.weights_out')),
)
_GATED = tuple(
    (f'blocks.N.mlp.fc1.{leaf}', tuple(f'encoder.layer.N.mlp.{part}.{leaf}' for part in ('gate_proj', 'up_proj')))
    for leaf in ('weight', 'bias')
)
BACKBONES['transformers 5 dinov2'] = _dinov2(
    'attention', _QKV, 'attention.o_proj', (*_GATED, ('blocks.N.mlp.fc2', 'encoder.layer.N.mlp.down_proj'))
)
BACKBONES['transformers dinov3'], BACKBONES['transformers 5 dinov3'] = _dinov3(''), _dinov3('model.')
BACKBONES['transformers dinov3 convnext'] = _dinov3_convnext('')
BACKBONES['transformers 5 dinov3 convnext'] = _dinov3_convnext('model.')
BACKBONES['detectron2'] = (
    *(
        pair
        for i in range(1, 5)
        for pair in (
            *((f'layer{i}.N.bn{j}', f'res{i + 1}.N.conv{j}.norm') for j in (1, 2, 3)),
            *((f'layer{i}.N.conv{j}', f'res{i + 1}.N.conv{j}') for j in (1, 2, 3)),
            (f'layer{i}.N.downsample.1', f'res{i + 1}.N.shortcut.norm'),
            (f'layer{i}.N.downsample.0', f'res{i + 1}.N.shortcut'),
        )
    ),
    ('bn1', 'stem.conv1.norm'),
    ('conv1', 'stem.conv1'),
    ('fc', 'linear'),
)
# lightly's examples keep a ResNet's children in an nn.Sequential.
BACKBONES['sequential'] = (('conv1', '0'), ('bn1', '1'), *((f'layer{i}', str(i + 3)) for i in range(1, 5)))
# The tensor that gives a naming away, the more special naming first; a ViT or ResNet without any has our names.
MARKS = {
    'mmseg': 'layers.0.attn.attn.in_proj_weight',
    'mmpretrain': 'layers.0.ln1.weight',
    'transformers 5': 'layers.0.attention.q_proj.weight',
    'transformers 5 dinov2': 'encoder.layer.0.attention.o_proj.weight',
    'transformers dinov2': 'encoder.layer.0.layer_scale1.lambda1',
    'transformers 5 dinov3': 'model.layer.0.layer_scale1.lambda1',
    'transformers dinov3': 'layer.0.layer_scale1.lambda1',
    'transformers 5 dinov3 convnext': 'model.stages.0.layers.0.depthwise_conv.weight',
    'transformers dinov3 convnext': 'stages.0.layers.0.depthwise_conv.weight',
    'transformers': 'embeddings.position_embeddings',
    'torchvision': 'encoder.pos_embedding',
    'sequential': '4.0.conv1.weight',
    'detectron2': 'res2.0.conv1.weight',
}

_STATISTICS = r'(weight|bias|running_mean|running_var|num_batches_tracked)'
_RESNET = re.compile(rf'((conv|bn)\d|layer\d\.\d+\.((conv|bn)\d|downsample\.\d)|fc)\.{_STATISTICS}')
_VIT_NAMES = re.compile(
    r'cls_token|pos_embed|mask_token|masked_embed|(reg|register|storage)_tokens?|patch_embed\.proj\..+|'
    r'(norm|fc_norm|head|local_cls_norm)\.(weight|bias)|rope_embed\.periods|'
    r'blocks(\.\d+){1,2}\.((norm\d|attn\.(qkv|proj)|mlp\.(fc\d(_[gx])?|w\d+))\.(weight|bias)|'
    r'ls\d\.gamma|gamma_\d|attn\.([qkv]_bias|qkv\.bias_mask))'
)


def naming_of(keys: Iterable[str]) -> str:
    """The entry of ``BACKBONES`` that a backbone's tensor names follow."""
    keys = set(keys)
    return next((name for name, mark in MARKS.items() if mark in keys), 'timm')


def is_of(family: str, name: str) -> bool:
    """True if any naming has this name for a tensor of a ``vit`` or a ``resnet``."""
    columns = ('sequential', 'detectron2') if family == 'resnet' else [n for n in BACKBONES if n[0] != 's']
    renamed = [_to_ours(column, name)[0] for column in columns]
    known = _RESNET if family == 'resnet' else _VIT_NAMES
    return any(known.fullmatch(candidate) for candidate in (name, *renamed))


def to_ours(tensors: Mapping[str, Tensor], naming: str) -> dict[str, Tensor]:
    """Translate a backbone's names; unknown ones stay as they are, so that a later check reports them."""
    renamed: dict[str, Tensor] = {}
    thirds: dict[str, dict[int, Tensor]] = {}
    for key, tensor in tensors.items():
        name, part = _to_ours(naming, key)
        if part is None:
            renamed[name] = tensor
        else:
            renamed.setdefault(name, tensor)  # keeps the place
            thirds.setdefault(name, {})[part] = tensor
    for name, parts in thirds.items():
        renamed[name] = torch.cat([parts[i] for i in sorted(parts)])
    return to_timm(renamed)


def from_ours(tensors: Mapping[str, Tensor], naming: str) -> dict[str, Tensor]:
    """The inverse of :func:`to_ours`."""
    renamed = {}
    for key, tensor in tensors.items():
        names = _from_ours(naming, key)
        renamed.update({names[0]: tensor} if len(names) == 1 else dict(zip(names, tensor.chunk(len(names)))))
    return renamed


def inexpressible(keys: Iterable[str], naming: str) -> list[str]:
    """Our backbone names for which a ViT naming has no word."""
    return [key for key in keys if not any(pattern.fullmatch(key) for pattern, _ in _inverse_patterns(naming))]


def _to_ours(naming: str, key: str) -> tuple[str, int | None]:
    for pattern, (ours, part) in _patterns(naming):
        if match := pattern.fullmatch(key):
            return _fill(ours, match), part
    return key, None


def _from_ours(naming: str, key: str) -> list[str]:
    for pattern, theirs in _inverse_patterns(naming):
        if match := pattern.fullmatch(key):
            return [_fill(name, match) for name in theirs]
    return [key]


@cache
def _patterns(naming: str) -> list[tuple[re.Pattern, tuple[str, int | None]]]:
    """Of their names, each with ours, and which part of ours it is, if one."""
    rows = [(ours, (theirs,) if isinstance(theirs, str) else theirs) for ours, theirs in BACKBONES[naming]]
    return [(_regex(name), (ours, i if names[1:] else None)) for ours, names in rows for i, name in enumerate(names)]


@cache
def _inverse_patterns(naming: str) -> list[tuple[re.Pattern, tuple[str, ...]]]:
    """Of our names, each with theirs."""
    return [(_regex(ours), (theirs,) if isinstance(theirs, str) else theirs) for ours, theirs in BACKBONES[naming]]


def _regex(name: str) -> re.Pattern:
    return re.compile(re.escape(name).replace('N', r'(?P<block>\d+)') + r'(?P<rest>(?:\..+)?)')


def _fill(name: str, match: re.Match) -> str:
    return name.replace('N', match.groupdict().get('block') or 'N') + match['rest']
