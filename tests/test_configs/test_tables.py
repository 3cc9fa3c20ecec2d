"""The tables for people, the metafile for tools and the configs say the same."""

import re
from pathlib import PurePosixPath

import pytest
import yaml

from tests.test_configs.shipped import PRETRAINING, ROOT, load
from tests.test_configs.test_recipes import LINEAR_TABLE, PRETRAINING_TABLE

FOLDER = PurePosixPath('configs/mocov3')
# Linear evaluation on ImageNet-1k: the official configuration page; table 1 of arXiv 2104.02057 for ViT-L and ViT-H.
PUBLISHED = {
    'vit-small': 73.2,
    'vit-base': 76.7,
    'vit-large': 77.6,
    'vit-huge': 78.1,
    'resnet50_100e': 68.9,
    'resnet50_300e': 72.8,
    'resnet50_1000e': 74.6,
}


def rows(path):
    """The rows of all markdown tables of a file whose first cell links a config: {config: {heading: cell}}."""
    found, headings = {}, []
    for line in (ROOT / path).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip('|').split('|')] if line.strip().startswith('|') else []
        if not cells:
            headings = []
        elif not headings:
            headings = cells
        elif link := re.search(r'\]\(([^)]*\.py)\)', cells[0]):
            config = (PurePosixPath(path).parent / link[1]).as_posix()
            assert (ROOT / config).is_file(), f'{path}: there is no {config}'
            found[config] = dict(zip(headings, cells, strict=True))
    return found


def accuracy(cell):
    number = re.search(r'\d\d\.\d', cell)
    return float(number[0]) if number else None


def metafile():
    return yaml.safe_load((ROOT / FOLDER / 'metafile.yml').read_text())


def table_of(config):
    name = PurePosixPath(config).stem
    return PRETRAINING_TABLE.get(name) or LINEAR_TABLE.get(name)


def test_readme_lists_every_recipe():
    assert set(rows(FOLDER / 'README.md')) == set(PRETRAINING)


@pytest.mark.parametrize(('config', 'row'), rows(FOLDER / 'README.md').items())
def test_readme_row_is_the_config(config, row):
    cfg = load(config)
    assert int(row['epochs']) == cfg.train_cfg.max_epochs
    assert float(row['lr']) == cfg.optim_wrapper.optimizer.lr
    gpus, images = map(int, row['batch'].split(' x '))
    assert images == cfg.train_dataloader.batch_size
    if table := table_of(config):
        assert gpus == table.gpus
    assert accuracy(row['published top-1']) == PUBLISHED.get(PurePosixPath(config).stem)
    linear = re.search(r'\]\((.*\.py)\)', row['linear evaluation'])[1]
    assert load((FOLDER / linear).as_posix()).model.backbone.type == cfg.model.backbone.type


def test_readme_says_who_measured():
    assert 'none of them was re-run here' in ' '.join((ROOT / FOLDER / 'README.md').read_text().split())


def test_model_index_imports_every_metafile():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    assert sorted(index) == sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / 'configs').rglob('metafile.yml'))


def test_metafile_has_the_fields_that_openmmlab_tools_read():
    meta = metafile()
    (collection,) = meta['Collections']
    assert (ROOT / collection['README']).is_file()
    assert collection['Paper'].keys() == {'Title', 'URL'}
    assert len({model['Name'] for model in meta['Models']}) == len(meta['Models'])
    for model in meta['Models']:
        assert model['In Collection'] == collection['Name']
        assert {'Name', 'Config', 'Metadata', 'Results'} <= model.keys()
        assert 'Weights' not in model, 'no weights are distributed'
        assert model['Name'] == f'mocov3_{PurePosixPath(model["Config"]).stem}'


@pytest.mark.parametrize('model', metafile()['Models'], ids=lambda model: model['Name'])
def test_metafile_model_is_the_config(model):
    cfg, table = load(model['Config']), table_of(model['Config'])
    assert model['Metadata']['Epochs'] == cfg.train_cfg.max_epochs
    assert model['Metadata']['Batch Size'] == table.gpus * table.images_per_gpu
    results = model['Results'] or []
    numbers = [result['Metrics']['Top 1 Accuracy'] for result in results]
    published = PUBLISHED.get(PurePosixPath(model['Config']).stem)
    assert numbers == ([] if published is None else [published])
    assert all(result['Dataset'] == 'ImageNet-1k' and result['Source'] for result in results)


def test_metafile_lists_every_published_recipe():
    listed = {PurePosixPath(model['Config']).stem for model in metafile()['Models']}
    own = {name for name in PRETRAINING_TABLE | LINEAR_TABLE if 'custom' in name or 'cifar' in name}
    assert listed == (PRETRAINING_TABLE | LINEAR_TABLE).keys() - own


def test_top_readme_repeats_the_same_numbers():
    """Every row of README.md that links a config has that config's accuracy, batch and epochs, or leaves them out."""
    readme = rows('README.md')
    assert readme, 'README.md has no table of recipes with links to configs'
    for config, row in readme.items():
        text = ' '.join(row.values())
        number = accuracy(text)
        assert number in (None, PUBLISHED.get(PurePosixPath(config).stem)), f'README.md: {config} has {number}'
        if batch := re.search(r'(\d+) x (\d+)', text):
            table = table_of(config)
            assert (int(batch[1]), int(batch[2])) == (table.gpus, table.images_per_gpu), f'README.md: {config}'
        if 'epochs' in row:
            assert int(row['epochs']) == load(config).train_cfg.max_epochs, f'README.md: {config}'


def test_fidelity_page_names_tests_that_exist():
    paths = re.findall(r'`((?:tests|tools)/[\w/.]+\.py)', (ROOT / 'docs' / 'fidelity.md').read_text())
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).is_file()] == []
