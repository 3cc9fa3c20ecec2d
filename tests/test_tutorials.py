"""The notebooks of docs/tutorials: kept without outputs, in the site, and true."""

import ast
import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / 'docs' / 'tutorials'
# A notebook, and what its outputs must say.
EXPECTED = {
    'first_run': ['The run learned: loss', 'epoch 8/8', 'protocol  setting  metric', '(360, 96) digits/test/0'],
    'own_images_to_a_detector': [
        '96 images in photos',
        '<iframe srcdoc=',
        "['fc.weight', 'fc.bias']",
        'loss_objectness',
    ],
    'adding_an_algorithm': ['BYOL', '(chance 4.00, floor 0.00)', 'protocol  setting  metric'],
}


def cells(name: str, kind: str) -> list[str]:
    found = json.loads((FOLDER / f'{name}.ipynb').read_text(encoding='utf-8'))['cells']
    assert all(not cell.get('outputs') and not cell.get('execution_count') for cell in found)
    return [''.join(cell['source']) for cell in found if cell['cell_type'] == kind]


def test_the_site_shows_them():
    index = (FOLDER.parent / 'index.md').read_text(encoding='utf-8')
    assert {path.stem for path in FOLDER.glob('*.ipynb')} == set(EXPECTED)
    assert set(re.findall(r'^tutorials/(\w+)$', index, re.MULTILINE)) == set(EXPECTED)


@pytest.mark.parametrize('name', EXPECTED)
def test_they_are_python_and_their_links_lead_somewhere(name):
    for code in cells(name, 'code'):
        ast.parse(code)
    links = re.findall(r'\]\(([^):#]+)\)', '\n'.join(cells(name, 'markdown')))
    assert links
    assert [link for link in links if not (FOLDER / link).exists()] == []


@pytest.mark.slow  # a kernel each, and trainings of seconds
@pytest.mark.parametrize('name', EXPECTED)
def test_they_run(name, tmp_path):
    nbformat, nbclient = pytest.importorskip('nbformat'), pytest.importorskip('nbclient')
    notebook = nbformat.read(FOLDER / f'{name}.ipynb', as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={'metadata': {'path': str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', [])]
    told = '\n'.join(output.get('text') or '\n'.join(map(str, output.get('data', {}).values())) for output in outputs)
    for words in EXPECTED[name]:
        assert words in told
    lines = [output['data']['text/plain'] for output in outputs if 'data' in output]
    assert sum(' left' in line for line in lines) == 1  # the progress line renews itself
