"""The table of collectives in docs/scale.md names each that the code uses, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import mocox

OPERATIONS = {
    'gather_rows', 'start_gathering', 'exchange_rows', 'gather_objects', 'maxima', 'of_first', 'barrier', 'meet',
    'all_reduce_sum', 'gather_shards', 'full_tensor', 'fully_shard', 'init_device_mesh', 'init_process_group',
    'destroy_process_group', 'all_gather_into_tensor', 'all_to_all_single', 'all_gather_object', 'all_reduce',
    'broadcast',
}  # fmt: skip
NO_COLLECTIVES = {
    'is_available', 'is_initialized', 'get_world_size', 'get_rank', 'get_backend', 'TCPStore', 'PrefixStore',
}  # fmt: skip
ROOT = Path(mocox.__file__).parent


def calls(node: ast.AST, place: str) -> Iterator[tuple[str, str, bool]]:
    """Place, name and whether it is one of ``torch.distributed``, of each call."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            names = ast.unparse(child.func).split('.')
            yield place, names[-1], names[0] == 'torch_dist' or names[:2] == ['torch', 'distributed']
        is_named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        yield from calls(child, f'{place}.{child.name}' if is_named else place)


def used() -> list[tuple[str, str, bool]]:
    found = []
    for path in ROOT.rglob('*.py'):
        if '.mim' not in path.parts:
            found += calls(ast.parse(path.read_text()), '.'.join(path.relative_to(ROOT).with_suffix('').parts))
    return found


def test_the_table_names_every_use_and_no_other():
    text = (ROOT.parent / 'docs' / 'scale.md').read_text()
    table = set(re.findall(r'^\| `([\w.]+)` \| `(\w+)` \|', text, flags=re.MULTILINE))
    assert table == {(place, name) for place, name, _ in used() if name in OPERATIONS}


def test_no_operation_of_torch_is_unknown_here():
    assert {name for _, name, of_torch in used() if of_torch} <= OPERATIONS | NO_COLLECTIVES
