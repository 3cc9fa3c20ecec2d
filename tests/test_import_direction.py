"""Imports go one way: a module may import what stands to the left of it here, and its own package."""

import ast
from pathlib import Path

import mocox

LAYERS = [
    'registry version schedules compat randomness configs',
    'dist augment',
    'processes dtensor',
    'models.losses models.batch_norm models.momentum_encoder models.key_queue models.shuffle_bn '
    'models.compilation models.fully_shard',
    'models.chunks models.backbones models.necks models.heads datasets',
    'models.data_preprocessor models.algorithms models',
    'recipe',
    'checkpoint',
    'evaluation engine',
    'visualize monitors',
    'report run',
    'cli doctor reference',
    'demo',
]
LEVEL = {f'mocox.{name}': level for level, layer in enumerate(LAYERS) for name in layer.split()}


def layer_of(module: str) -> str | None:
    """The listed module that this one is or lies in."""
    while module not in LEVEL and '.' in module:
        module = module.rpartition('.')[0]
    return module if module in LEVEL else None


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: relative import'
            names |= {f'{node.module}.{alias.name}' for alias in node.names}
    return {name for name in names if name.startswith('mocox.')}


def test_imports_go_one_way():
    folder = Path(mocox.__file__).parent
    wrong = []
    for path in sorted(folder.rglob('*.py')):
        if path == folder / '__init__.py' or '.mim' in path.parts:
            continue
        module = '.'.join(('mocox', *path.relative_to(folder).with_suffix('').parts)).removesuffix('.__init__')
        own = layer_of(module)
        assert own, f'{module} has no place in LAYERS'
        for name in imports_of(path):
            other = layer_of(name)
            inside = other and f'{other}.'.startswith(f'{own}.')  # a package imports its own parts
            if other and not inside and LEVEL[other] >= LEVEL[own]:
                wrong.append(f'{module} imports {name}')
    assert not wrong
