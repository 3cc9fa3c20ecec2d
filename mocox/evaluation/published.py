"""Published numbers of the recipes, printed beside ours where recipe and benchmark are the same."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mocox.checkpoint import Checkpoint
from mocox.configs import published_models
from mocox.evaluation.data import IMAGENET_1K, VOC07

BENCHMARK_OF = {'knn': IMAGENET_1K, 'linear': IMAGENET_1K, 'svm': VOC07, 'lowshot': VOC07}


@dataclass(frozen=True)
class Published:
    """The numbers of one recipe.

    Args:
        method: As :func:`method_of` says it.
        arch: Beginning of the name of the architecture.
        recipes: Names of the recipe in a file: ours, and the official one.
        epochs: Duration of pre-training.
        source: Source of the numbers.
        numbers: Percent by protocol, or by protocol and setting.
    """

    method: str
    arch: str
    recipes: tuple[str, ...]
    epochs: int
    source: str
    numbers: dict[str | tuple[str, str], float]


# Further numbers of one recipe, from mmselfsup 0.x, configs/selfsup/mocov2/README.md: its own pre-training.
_MMSELFSUP = (
    {('knn', f'k={k}'): value for k, value in zip((10, 20, 100, 200), (55.6, 55.7, 53.7, 52.5))}
    | {'svm': 84.04}
    | {
        ('lowshot', f'{k} per class'): value
        for k, value in zip((1, 2, 4, 8, 16, 32, 64, 96), (43.14, 53.29, 65.34, 71.03, 75.42, 78.48, 80.88, 82.23))
    }
)
_FURTHER = (
    Published('MoCo v1', 'ResNet-50', ('resnet50_200e', 'resnet50'), 200, 'OpenSelfSup model zoo', {'svm': 79.18}),
    Published('MoCo v2', 'ResNet-50', ('resnet50_200e', 'resnet50'), 200, 'mmselfsup 0.x', _MMSELFSUP),
)
# How the name of an architecture starts, by the beginning of its recipe's name; Swin's is not told by its tensors.
_ARCHITECTURES = {
    'resnet50': 'ResNet-50', 'vit-small': 'ViT-S/16', 'vit-base': 'ViT-B/16', 'vit-large': 'ViT-L/16',
    'vit-huge': 'ViT-H/14', 'deit-small': 'ViT-S/16', 'swin-tiny': '',
}  # fmt: skip
_OFFICIAL = ('MoCo v1', 'MoCo v2', 'MoCo v3')  # whose code names its recipes resnet50, vit_small, ...


@cache
def published_table() -> tuple[Published, ...]:
    """The numbers of linear evaluation from the metafiles beside the configs, and further ones."""
    rows = []
    for model in published_models():
        for result in model['Results']:
            if result['Task'] == 'Linear evaluation':
                rows.append(_row(model, result))
    return (*rows, *_FURTHER)


def _row(model: dict[str, Any], result: dict[str, Any]) -> Published:
    method, stem = model['In Collection'], Path(model['Config']).stem
    paper = model['Paper']['URL'].rpartition('/')[2]
    recipes = {stem: None}
    if method in _OFFICIAL:
        recipes[re.sub(r'_\d+e$', '', stem).replace('-', '_')] = None
    return Published(
        method,
        next(arch for name, arch in _ARCHITECTURES.items() if stem.startswith(name)),
        tuple(recipes),
        model['Metadata']['Epochs'],
        result['Source'].replace('official code', f'official {method} code').replace('paper', f'arXiv {paper}'),
        {'linear': result['Metrics']['Top 1 Accuracy']},
    )


def published_numbers(checkpoint: Checkpoint) -> list[Published]:
    """The rows for the recipe that a file names; none if it names none, or is ambiguous.

    A name and a number of epochs are those of supervised training as well: only heads, or a linear evaluation, tell
    that the recipe is the published one.
    """
    if checkpoint.kind not in ('self-supervised', 'linear'):
        return []
    meta, arch, method = checkpoint.meta, checkpoint.arch['name'], method_of(checkpoint)
    rows = [
        row
        for row in published_table()
        if meta.get('recipe') in row.recipes
        and meta.get('epochs') == row.epochs
        and arch.startswith(row.arch)
        and method in (None, row.method)
    ]
    return rows if len({row.method for row in rows}) == 1 else []


def find_number(rows: list[Published], protocol: str, setting: str) -> tuple[float, str] | None:
    """The published percentage and its source."""
    for row in rows:
        for key in (protocol, (protocol, setting)):
            if key in row.numbers:
                return row.numbers[key], row.source
    return None


def method_of(checkpoint: Checkpoint) -> str | None:
    """The algorithm whose heads a file holds, None without heads: only they identify it in every layout."""
    state = checkpoint.state_dict
    has_queue = any(name.startswith(('queue.', 'queues.', 'queue1.', 'queue2.')) for name in state)
    if any(name.startswith('head.predictor.') for name in state):
        if has_queue:
            return 'MoBY'
        first = (len(state[name]) for name in state if name.startswith('neck.') and name.endswith('fc0.weight'))
        if (width := next(first, None)) is None:  # SimSiam, BYOL of other projects
            return 'unknown'
        return 'Fast-MoCo' if 'neck.fc2.weight' in state and width == len(state['neck.fc2.weight']) else 'MoCo v3'
    if 'neck.mlp.0.weight' in state:
        return 'MoCo v2'
    return 'MoCo v1' if 'neck.fc.weight' in state else None
