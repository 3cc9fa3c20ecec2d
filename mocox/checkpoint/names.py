"""How other projects name the tensors that mocox names: one table for backbones, one for whole files.

Inside mocox a vision transformer has timm's names and a ResNet torchvision's (``BACKBONES``, first column); a whole
training state has the prefixes ``backbone, neck, head, momentum_encoder, queue`` (``LAYOUTS``, left of each pair).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

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
BACKBONES = {name: tuple((row[0], row[i]) for row in _VIT) for i, name in enumerate(NAMINGS)}
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
    'transformers': 'embeddings.position_embeddings',
    'torchvision': 'encoder.pos_embedding',
    'sequential': '4.0.conv1.weight',
    'detectron2': 'res2.0.conv1.weight',
}

_STATISTICS = r'(weight|bias|running_mean|running_var|num_batches_tracked)'
_RESNET = re.compile(rf'((conv|bn)\d|layer\d\.\d+\.((conv|bn)\d|downsample\.\d)|fc)\.{_STATISTICS}')
_VIT_NAMES = re.compile(
    r'cls_token|pos_embed|mask_token|masked_embed|patch_embed\.proj\..+|(norm|fc_norm|head)\.(weight|bias)|'
    r'blocks\.\d+\.(norm\d|attn\.(qkv|proj)|mlp\.fc\d)\.(weight|bias)'
)


@dataclass(frozen=True)
class Layout:
    """How a project arranges a whole file.

    Args:
        name: What messages call it.
        marks: Prefixes that all occur in such a file, and not in a file of the layouts above it.
        pairs: (our prefix, their prefix), special ones first; ours is None for what has no place in the layout.
        ignored: Prefixes of tensors we know and do not need.
        whole: The pairs translate projector and predictor too, so that a training state survives the translation.
    """

    name: str
    marks: tuple[str, ...]
    pairs: tuple[tuple[str | None, str], ...]
    ignored: tuple[str, ...] = ()
    whole: bool = False

    def source(self, ours: str) -> str:
        """Their prefix of one of our parts, with its dot ('' when their tensors have no prefix)."""
        theirs = dict(self.pairs).get(ours, '')
        return theirs and theirs + '.'


def _mlp(ours: str, theirs: str) -> tuple[tuple[str, str], ...]:
    """fc0, bn0, fc1, ... of NonLinearNeck against nn.Sequential(Linear, BatchNorm, ReLU, Linear, ...)."""
    layers = [((f'{ours}.fc{i}', f'{theirs}.{3 * i}'), (f'{ours}.bn{i}', f'{theirs}.{3 * i + 1}')) for i in range(8)]
    return tuple(pair for layer in layers for pair in layer)


def _official_v3(mark: str, projector: str) -> Layout:
    base, slow = f'base_encoder.{projector}', f'momentum_encoder.{projector}'
    pairs = (
        *_mlp('neck', base),
        (None, base),
        ('backbone', 'base_encoder'),
        *_mlp('momentum_encoder.neck', slow),
        (None, slow),
        ('momentum_encoder.backbone', 'momentum_encoder'),
        *_mlp('head.predictor', 'predictor'),
    )
    return Layout('facebookresearch/moco-v3', (f'base_encoder.{mark}',), pairs, whole=True)


def _official_head(ours: str, theirs: str) -> tuple[tuple[str | None, str], ...]:
    """v1's linear layer (mmpretrain's LinearNeck) and v2's two (mmpretrain's MoCoV2Neck)."""
    linear = tuple((f'{ours}.fc.{leaf}', f'{theirs}.{leaf}') for leaf in ('weight', 'bias'))
    return (*linear, (f'{ours}.mlp.0', f'{theirs}.0'), (f'{ours}.mlp.2', f'{theirs}.2'), (None, theirs))


def _same(*prefixes: str) -> tuple[tuple[str, str], ...]:
    return tuple((prefix, prefix) for prefix in prefixes)


def _momentum(backbone: str, neck: str) -> tuple[tuple[str, str], ...]:
    return ('momentum_encoder.backbone', backbone), ('momentum_encoder.neck', neck)


def _slow(prefix: str, projector: str) -> tuple[tuple[str | None, str], ...]:
    return ('momentum_encoder.neck', f'{prefix}.{projector}'), ('momentum_encoder.backbone', prefix)


_QUEUE = (('queue.keys', 'queue'), ('queue.pointer', 'queue_ptr'))
_CLASSIFIERS = tuple(
    (f'head.fc.{leaf}', f'{name}.{leaf}')
    for name in ('head', 'fc', 'classifier', 'heads.head')
    for leaf in ('weight', 'bias')
)
V3_VIT, V3_RESNET = _official_v3('cls_token', 'head'), _official_v3('conv1', 'fc')
V1_V2 = Layout(
    'facebookresearch/moco',
    ('encoder_q',),
    (
        *_QUEUE,
        *_official_head('neck', 'encoder_q.fc'),
        ('backbone', 'encoder_q'),
        *_official_head('momentum_encoder.neck', 'encoder_k.fc'),
        ('momentum_encoder.backbone', 'encoder_k'),
    ),
    whole=True,
)
LAYOUTS = (
    Layout(
        'mmselfsup 0.x MoCo v3',
        ('base_encoder.0', 'base_encoder.1'),
        (
            ('backbone', 'base_encoder.0'),
            ('neck', 'base_encoder.1'),
            *_momentum('momentum_encoder.0', 'momentum_encoder.1'),
            ('head.predictor', 'head.predictor'),
        ),
        ignored=('backbone', 'neck'),  # the same tensors as base_encoder's
        whole=True,
    ),
    Layout(
        'mmselfsup 0.x MoCo v1/v2',
        ('encoder_q.0', 'encoder_q.1'),
        (('backbone', 'encoder_q.0'), ('neck', 'encoder_q.1'), *_momentum('encoder_k.0', 'encoder_k.1'), *_QUEUE),
        ignored=('backbone', 'neck'),
        whole=True,
    ),
    V3_VIT,
    V3_RESNET,
    V1_V2,
    Layout(
        'mmpretrain or mmselfsup 1.x MoCo v1/v2',
        ('encoder_k.module.0',),
        (*_same('backbone', 'neck'), *_momentum('encoder_k.module.0', 'encoder_k.module.1'), *_QUEUE),
        ignored=('encoder_k.steps', 'data_preprocessor'),
        whole=True,
    ),
    Layout(
        'mmpretrain or mmselfsup 1.x MoCo v3',
        ('momentum_encoder.module.0',),
        (
            *_same('backbone', 'neck', 'head.predictor'),
            *_momentum('momentum_encoder.module.0', 'momentum_encoder.module.1'),
        ),
        ignored=('momentum_encoder.steps', 'data_preprocessor'),
        whole=True,
    ),
    Layout(
        'mmpretrain or mmselfsup 1.x BYOL',
        ('target_net.module.0',),
        (*_same('backbone', 'neck'), *_momentum('target_net.module.0', 'target_net.module.1')),
        ignored=('target_net.steps', 'head', 'data_preprocessor'),
    ),
    Layout(
        'mocox',
        ('backbone', 'momentum_encoder.backbone'),
        _same('backbone', 'neck', 'head', 'momentum_encoder.backbone', 'momentum_encoder.neck', 'queue'),
        ignored=('data_preprocessor',),
        whole=True,
    ),
    Layout(  # its classifiers are online probes on detached features
        'solo-learn',
        ('backbone', 'projector'),
        (
            ('backbone', 'backbone'),
            ('neck', 'projector'),
            *_momentum('momentum_backbone', 'momentum_projector'),
            ('head.predictor', 'predictor'),
        ),
        ignored=('classifier', 'momentum_classifier', 'queue', 'queue_ptr'),
    ),
    Layout(
        'solo-learn 1.0.3 or older',
        ('encoder', 'projector'),
        (
            ('backbone', 'encoder'),
            ('neck', 'projector'),
            *_momentum('momentum_encoder', 'momentum_projector'),
            ('head.predictor', 'predictor'),
        ),
        ignored=('classifier', 'momentum_classifier', 'queue', 'queue_ptr'),
    ),
    Layout('solo-learn linear', ('backbone', 'classifier'), (('backbone', 'backbone'), ('head.fc', 'classifier'))),
    *(
        Layout(  # lightly's benchmarks: `backbone` is the slow encoder there
            'lightly',
            ('backbone', fast + 'backbone'),
            (
                ('backbone', fast + 'backbone'),
                ('neck', fast + 'projection_head'),
                *_momentum('backbone', 'projection_head'),
                ('head.predictor', fast + 'prediction_head'),
            ),
            ignored=('criterion', 'online_classifier'),
        )
        for fast in ('query_', 'student_')
    ),
    Layout(
        'lightly',
        ('backbone', 'projection_head'),
        (
            ('backbone', 'backbone'),
            ('neck', 'projection_head'),
            *_momentum('backbone_momentum', 'projection_head_momentum'),
            ('head.predictor', 'prediction_head'),
        ),
        ignored=('criterion', 'online_classifier'),
    ),
    Layout(
        'OpenMMLab',
        ('backbone',),
        (('head.fc', 'head.layers.head'), *_same('backbone', 'neck', 'head')),
        ignored=('data_preprocessor',),
    ),
    Layout(
        'DINO or iBOT',
        ('student', 'teacher'),
        (
            ('backbone', 'student.backbone'),
            ('neck', 'student.head'),
            *_momentum('teacher.backbone', 'teacher.head'),
        ),
    ),
    Layout(
        'facebookresearch/simsiam',
        ('encoder.conv1', 'encoder.fc', 'predictor'),
        (('neck', 'encoder.fc'), ('backbone', 'encoder'), ('head.predictor', 'predictor')),
    ),
    *(
        Layout(f'{name}, key encoder only', marks, pairs)
        for name, marks, pairs in (
            ('mocox', ('momentum_encoder.backbone',), _momentum('momentum_encoder.backbone', 'momentum_encoder.neck')),
            *(
                ('facebookresearch/moco-v3', (f'momentum_encoder.{mark}',), _slow('momentum_encoder', head))
                for mark, head in (('cls_token', 'head'), ('conv1', 'fc'))
            ),
            ('facebookresearch/moco', ('encoder_k.conv1',), _slow('encoder_k', 'fc')),
        )
    ),
    Layout('transformers', ('vit.embeddings',), (('backbone', 'vit'), ('head.fc', 'classifier'))),
    Layout('plain state dict', (), (*_CLASSIFIERS, ('backbone', '')), ignored=('pooler',)),
)


def recognise(keys: Iterable[str]) -> Layout:
    """The first layout whose marks all occur; the last one has no marks."""
    keys = list(keys)
    return next(row for row in LAYOUTS if all(any(has_prefix(k, mark) for k in keys) for mark in row.marks))


def below(prefix: str) -> Layout:
    """The layout of a file that keeps a backbone, and perhaps its classifier, below a prefix of its own."""
    classifiers = tuple((ours, f'{prefix}.{theirs}') for ours, theirs in _CLASSIFIERS)
    heads = ((None, f'{prefix}.fc'), (None, f'{prefix}.head'))
    return Layout(f'a backbone below {prefix}.', (), (*classifiers, *heads, ('backbone', prefix)))


def has_prefix(key: str, prefix: str) -> bool:
    """Whether a dotted name starts with the given parts."""
    return not prefix or key == prefix or key.startswith(prefix + '.')


def translate(key: str, pairs: Iterable[tuple[str, str | None]]) -> str | None:
    """Replace the first matching prefix, (old, new); None when there is none or its new name is None."""
    for old, new in pairs:
        if has_prefix(key, old):
            rest = key[len(old) :].lstrip('.')
            return None if new is None else '.'.join(part for part in (new, rest) if part)
    return None


def naming_of(keys: Iterable[str]) -> str:
    """Which of ``BACKBONES`` a backbone's tensor names follow."""
    keys = set(keys)
    return next((name for name, mark in MARKS.items() if mark in keys), 'timm')


def is_of(family: str, name: str) -> bool:
    """Whether any naming has this name for a tensor of a ``vit`` or a ``resnet``."""
    columns = ('sequential', 'detectron2') if family == 'resnet' else [n for n in BACKBONES if n[0] != 's']
    renamed = [_to_ours(column, name)[0] for column in columns]
    known = _RESNET if family == 'resnet' else _VIT_NAMES
    return any(known.fullmatch(candidate) for candidate in (name, *renamed))


def to_ours(tensors: Mapping[str, Tensor], naming: str) -> dict[str, Tensor]:
    """Translate a backbone's names; unknown ones stay as they are, so that a later check reports them."""
    renamed, thirds = {}, {}
    for key, tensor in tensors.items():
        name, part = _to_ours(naming, key)
        if part is None:
            renamed[name] = tensor
        else:
            renamed.setdefault(name, None)  # keeps the place
            thirds.setdefault(name, {})[part] = tensor
    for name, parts in thirds.items():
        renamed[name] = torch.cat([parts[i] for i in sorted(parts)])
    return renamed


def from_ours(tensors: Mapping[str, Tensor], naming: str) -> dict[str, Tensor]:
    """The inverse of :func:`to_ours`."""
    renamed = {}
    for key, tensor in tensors.items():
        names = _from_ours(naming, key)
        renamed.update({names[0]: tensor} if len(names) == 1 else dict(zip(names, tensor.chunk(len(names)))))
    return renamed


def inexpressible(keys: Iterable[str], naming: str) -> list[str]:
    """Our backbone names for which a ViT naming has no word."""
    return [key for key in keys if not any(pattern.fullmatch(key) for pattern, _ in _patterns(naming, False))]


def _to_ours(naming: str, key: str) -> tuple[str, int | None]:
    for pattern, (ours, part) in _patterns(naming, True):
        if match := pattern.fullmatch(key):
            return _fill(ours, match), part
    return key, None


def _from_ours(naming: str, key: str) -> list[str]:
    for pattern, theirs in _patterns(naming, False):
        if match := pattern.fullmatch(key):
            return [_fill(name, match) for name in theirs]
    return [key]


@cache
def _patterns(naming: str, theirs_first: bool) -> list[tuple[re.Pattern, tuple]]:
    table = []
    for ours, theirs in BACKBONES[naming]:
        names = (theirs,) if isinstance(theirs, str) else theirs
        if theirs_first:
            table += [(_regex(name), (ours, i if len(names) > 1 else None)) for i, name in enumerate(names)]
        else:
            table.append((_regex(ours), names))
    return table


def _regex(name: str) -> re.Pattern:
    return re.compile(re.escape(name).replace('N', r'(?P<block>\d+)') + r'(?P<rest>(?:\..+)?)')


def _fill(name: str, match: re.Match) -> str:
    return name.replace('N', match.groupdict().get('block') or 'N') + match['rest']
