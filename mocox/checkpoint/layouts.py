"""Checkpoint layouts of other projects.

Inside mocox a training state has the prefixes ``backbone, neck, head, momentum_encoder, queue`` (``LAYOUTS``, left of
each pair).
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """The checkpoint layout of a project.

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
    """The layout of a file that keeps a backbone, and perhaps its classifier, below its own prefix."""
    classifiers = tuple((ours, f'{prefix}.{theirs}') for ours, theirs in _CLASSIFIERS)
    heads = ((None, f'{prefix}.fc'), (None, f'{prefix}.head'))
    return Layout(f'a backbone below {prefix}.', (), (*classifiers, *heads, ('backbone', prefix)))


def has_prefix(key: str, prefix: str) -> bool:
    """True if a dotted name starts with the given parts."""
    return not prefix or key == prefix or key.startswith(prefix + '.')


def translate(key: str, pairs: Iterable[tuple[str, str | None]]) -> str | None:
    """Replace the first matching prefix, (old, new); None when there is none or its new name is None."""
    for old, new in pairs:
        if has_prefix(key, old):
            rest = key[len(old) :].lstrip('.')
            return None if new is None else '.'.join(part for part in (new, rest) if part)
    return None
