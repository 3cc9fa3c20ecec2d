"""Published numbers of the recipes, to be printed beside ours where recipe and benchmark are the same."""

from dataclasses import dataclass

from mocox.checkpoint import Checkpoint
from mocox.evaluation.data import IMAGENET_1K, VOC07

BENCHMARK_OF = {'knn': IMAGENET_1K, 'linear': IMAGENET_1K, 'svm': VOC07, 'lowshot': VOC07}


@dataclass(frozen=True)
class Published:
    """The numbers of one recipe.

    Args:
        method: As :func:`method_of` says it.
        arch: How the name of the architecture starts.
        recipes: What the file may call its recipe: ours, that of the official code.
        epochs: Duration of pre-training.
        source: Of the numbers.
        numbers: Percent by protocol, or by protocol and setting.
    """

    method: str
    arch: str
    recipes: tuple[str, ...]
    epochs: int
    source: str
    numbers: dict[str | tuple[str, str], float]


_V3 = 'official MoCo v3 code'
_V1_V2 = 'official MoCo code'
_MMSELFSUP = (
    # mmselfsup 0.x, configs/selfsup/mocov2/README.md; its own pre-training with the recipe of the row
    {('knn', f'k={k}'): value for k, value in zip((10, 20, 100, 200), (55.6, 55.7, 53.7, 52.5))}
    | {'svm': 84.04}
    | {
        ('lowshot', f'{k} per class'): value
        for k, value in zip((1, 2, 4, 8, 16, 32, 64, 96), (43.14, 53.29, 65.34, 71.03, 75.42, 78.48, 80.88, 82.23))
    }
)
TABLE = (
    Published('MoCo v1', 'ResNet-50', ('resnet50_200e', 'resnet50'), 200, _V1_V2, {'linear': 60.6}),
    Published('MoCo v1', 'ResNet-50', ('resnet50_200e', 'resnet50'), 200, 'OpenSelfSup model zoo', {'svm': 79.18}),
    Published('MoCo v2', 'ResNet-50', ('resnet50_200e', 'resnet50'), 200, _V1_V2, {'linear': 67.7}),
    Published('MoCo v2', 'ResNet-50', ('resnet50_200e', 'resnet50'), 200, 'mmselfsup 0.x', _MMSELFSUP),
    Published('MoCo v2', 'ResNet-50', ('resnet50_800e', 'resnet50'), 800, _V1_V2, {'linear': 71.1}),
    Published('MoCo v3', 'ResNet-50', ('resnet50_100e', 'resnet50'), 100, _V3, {'linear': 68.9}),
    Published('MoCo v3', 'ResNet-50', ('resnet50_300e', 'resnet50'), 300, _V3, {'linear': 72.8}),
    Published('MoCo v3', 'ResNet-50', ('resnet50_1000e', 'resnet50'), 1000, _V3, {'linear': 74.6}),
    Published('MoCo v3', 'ViT-S/16', ('vit-small', 'vit_small'), 300, f'{_V3}, batch 4096', {'linear': 73.2}),
    Published('MoCo v3', 'ViT-B/16', ('vit-base', 'vit_base'), 300, _V3, {'linear': 76.7}),
    Published('MoCo v3', 'ViT-L/16', ('vit-large',), 300, 'arXiv 2104.02057, table 1', {'linear': 77.6}),
    Published('MoCo v3', 'ViT-H/14', ('vit-huge',), 300, 'arXiv 2104.02057, table 1', {'linear': 78.1}),
    Published('Fast-MoCo', 'ResNet-50', ('resnet50_100e',), 100, 'official Fast-MoCo code', {'linear': 73.5}),
    Published('Fast-MoCo', 'ResNet-50', ('resnet50_200e',), 200, 'official Fast-MoCo code', {'linear': 75.1}),
    Published('Fast-MoCo', 'ResNet-50', ('resnet50_400e',), 400, 'official Fast-MoCo code', {'linear': 75.5}),
    Published('MoBY', 'ViT-S/16', ('deit-small',), 300, 'official MoBY code', {'linear': 72.8}),
    Published('MoBY', '', ('swin-tiny',), 300, 'official MoBY code', {'linear': 75.3}),
)


def published_numbers(checkpoint: Checkpoint) -> list[Published]:
    """The rows for the recipe that a file says it comes from; none if it does not say, or says something ambiguous."""
    meta, arch, method = checkpoint.meta, checkpoint.arch['name'], method_of(checkpoint)
    rows = [
        row
        for row in TABLE
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
    """The algorithm whose heads a file holds, None without heads: they are the only trace of it in every layout."""
    state = checkpoint.state_dict
    has_queue = any(name.startswith(('queue.', 'queues.', 'queue1.', 'queue2.')) for name in state)
    if any(name.startswith('head.predictor.') for name in state):
        if has_queue:
            return 'MoBY'
        width = next(len(state[name]) for name in state if name.startswith('neck.') and name.endswith('fc0.weight'))
        return 'Fast-MoCo' if 'neck.fc2.weight' in state and width == len(state['neck.fc2.weight']) else 'MoCo v3'
    if 'neck.mlp.0.weight' in state:
        return 'MoCo v2'
    return 'MoCo v1' if 'neck.fc.weight' in state else None
