"""Imports go one way: a module may import what stands to the left of it here, and its own package."""

import ast
from pathlib import Path

import mocox
from mocox import evaluation

LAYERS = [
    'terminal notebook configs',
    'registry version schedules compat randomness pickles',
    'dist augment',
    'processes dtensor',
    'models.losses models.batch_norm models.momentum_encoder models.key_queue models.shuffle_bn '
    'models.compilation models.fully_shard models.layout',
    'models.chunks models.backbones models.necks models.heads datasets',
    'models.parts',
    'models.data_preprocessor models.algorithms models',
    'recipe',
    'checkpoint',
    'evaluation engine',
    'visualize monitors export complexity',
    'report run',
    'cli doctor reference',
    'image_choice',
    'demo auto',
    'api',
    'commands',
    '__main__',
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


def test_no_package_hides_a_module_behind_a_function():
    """``from mocox.x import y`` and ``import mocox.x.y`` must not mean two things."""
    folder, hidden = Path(mocox.__file__).parent, []
    for path in folder.rglob('__init__.py'):
        tree = ast.walk(ast.parse(path.read_text()))
        taken = {(alias.asname or alias.name, node.module) for node in tree if isinstance(node, ast.ImportFrom)
                 for alias in node.names}  # fmt: skip
        package = '.'.join(('mocox', *path.parent.relative_to(folder).parts))
        parts = {other.stem for other in path.parent.iterdir() if other.suffix in ('', '.py')}
        hidden += [f'{package}.{name}' for name, module in taken if name in parts and module != package]
    assert not hidden


def test_no_two_classes_share_a_name():
    folder, files = Path(mocox.__file__).parent, {}
    for path in sorted(folder.rglob('*.py')):
        if '.mim' not in path.parts:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    files.setdefault(node.name, []).append(str(path.relative_to(folder)))
    assert not {name: paths for name, paths in files.items() if len(paths) > 1}


def test_one_public_name_is_one_object():
    assert mocox.extract_features is evaluation.extract_features
    assert mocox.FeatureExtractor is evaluation.FeatureExtractor
