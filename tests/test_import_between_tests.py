"""Test files share through tests/support and conftest, not through each other."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent


def test_no_test_file_is_imported():
    modules = {'.'.join(('tests', *path.relative_to(ROOT).with_suffix('').parts)) for path in ROOT.rglob('test_*.py')}
    imported = set()
    for path in ROOT.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported |= {node.module, *(f'{node.module}.{alias.name}' for alias in node.names)}
    assert not imported & modules
