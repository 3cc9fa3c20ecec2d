"""The table for people, the metafile for tools and the first lines of the configs say the same."""

import ast
import re
from pathlib import PurePosixPath

import pytest
import yaml
from mmengine.config import Config

from tests.test_configs.shipped import ROOT

FOLDER = ROOT / 'configs' / 'benchmarks'
EVERY = sorted(p.relative_to(ROOT).as_posix() for p in FOLDER.rglob('*.py'))
METAFILE = yaml.safe_load((FOLDER / 'metafile.yml').read_text())


def readme_rows() -> dict[str, str]:
    """The row of every config that the first cell of a row links."""
    found = {}
    for line in (FOLDER / 'README.md').read_text().splitlines():
        if link := re.match(r'\| \[([\w.-]+)\]\(([\w/.-]+\.py)\)', line):
            assert PurePosixPath(link[2]).name == link[1]
            found[f'configs/benchmarks/{link[2]}'] = line
    return found


def test_readme_and_metafile_list_every_config():
    assert set(readme_rows()) == set(EVERY)
    assert sorted(model['Config'] for model in METAFILE['Models']) == EVERY
    assert 'none of them was re-run here' in ' '.join((FOLDER / 'README.md').read_text().split())


@pytest.mark.parametrize('model', METAFILE['Models'], ids=lambda model: model['Name'])
def test_numbers_agree(model):
    (collection,) = METAFILE['Collections']
    assert model['In Collection'] == collection['Name']
    assert 'Weights' not in model, 'no weights are distributed'
    source = (ROOT / model['Config']).read_text()
    docstring = ast.get_docstring(ast.parse(source))
    row, cfg = readme_rows()[model['Config']], Config.fromfile(ROOT / model['Config'])
    assert model['Name'] == model['Config'].removeprefix('configs/benchmarks/').removesuffix('.py').replace('/', '_')
    assert model['Metadata'].get('Epochs') == cfg.train_cfg.get('max_epochs')
    gpus, images = map(int, re.search(r'\| (\d+) x (\d+) \|', row).groups())
    assert gpus * images == model['Metadata']['Batch Size']
    assert images == cfg.train_dataloader.batch_size
    nodes = re.search(r'NNODES=(\d+)', docstring)
    assert gpus == int(nodes[1] if nodes else 1) * int(re.search(r'\.py (\d+)', docstring)[1])
    if not model['Results']:
        assert 'no number' in docstring and '| - |' in row
        return
    (result,) = model['Results']
    for number in result['Metrics'].values():
        assert re.search(rf'\b{number:g}0?\b', docstring), f'{number} is not in the first lines of the config'
        assert 'Top 5' in str(result['Metrics']) or re.search(rf'\b{number:g}0?\b', row), (
            f'{number} is not in the table'
        )
    from_memory = '[M]' in docstring[docstring.index('Published:') : docstring.index('Hardware:')]
    assert from_memory == ('from memory' in result['Source'])
    assert not from_memory or '[M]' in row
