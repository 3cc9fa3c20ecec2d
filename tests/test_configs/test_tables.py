"""The tables for people, the metafiles for tools and the configs say the same."""

import posixpath
import re
from pathlib import PurePosixPath

import pytest
import yaml

from tests.test_configs.published import ACCURACIES, LINEAR_TABLE, OURS, PRETRAINING_TABLE
from tests.test_configs.shipped import PRETRAINING, ROOT, load

FAMILIES = ['mocov1', 'mocov2', 'mocov3', 'moby', 'fast_moco']


def rows(path):
    """The rows of all markdown tables of a file whose first cell links a config: {config: {heading: cell}}."""
    found, headings = {}, []
    for line in (ROOT / path).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip('|').split('|')] if line.strip().startswith('|') else []
        if not cells:
            headings = []
        elif not headings:
            headings = cells
        elif config := linked_config(path, cells[0]):
            found[config] = dict(zip(headings, cells, strict=True))
    return found


def linked_config(path, cell):
    """The config that a cell of a file links, as a path from the root of the repository."""
    if link := re.search(r'\]\(([^)]*\.py)\)', cell):
        config = posixpath.normpath(PurePosixPath(path).parent / link[1])
        assert (ROOT / config).is_file(), f'{path}: there is no {config}'
        return config


def accuracy(cell):
    number = re.search(r'\d\d\.\d+', cell)
    return float(number[0]) if number else None


def name_of(config):
    """``mocov3/vit-small`` for the path of that config."""
    return config.removeprefix('configs/').removesuffix('.py')


def is_ours(config):
    return any(word in config for word in OURS)


def readme(family):
    return f'configs/{family}/README.md'


def metafile(family):
    return yaml.safe_load((ROOT / 'configs' / family / 'metafile.yml').read_text())


def table_of(config):
    return (PRETRAINING_TABLE | LINEAR_TABLE).get(name_of(config))


README_ROWS = [(family, *row) for family in FAMILIES for row in rows(readme(family)).items()]
MODELS = [(family, model) for family in FAMILIES for model in metafile(family)['Models']]


def test_every_folder_of_configs_is_a_family():
    assert sorted(FAMILIES) == sorted({PurePosixPath(name).parts[1] for name in PRETRAINING})


def test_readmes_list_every_recipe():
    assert sorted(config for _, config, _ in README_ROWS) == sorted(PRETRAINING)


@pytest.mark.parametrize(('family', 'config', 'row'), README_ROWS, ids=[config for _, config, _ in README_ROWS])
def test_readme_row_is_the_config(family, config, row):
    cfg = load(config)
    assert int(row['epochs']) == cfg.train_cfg.max_epochs
    assert float(row['lr']) == cfg.optim_wrapper.optimizer.lr
    gpus, images = map(int, row['batch'].split(' x '))
    assert images == cfg.train_dataloader.batch_size
    if table := table_of(config):
        assert gpus == table.gpus
    assert accuracy(row['published top-1']) == ACCURACIES.get(name_of(config))
    assert ('ours' in row['source']) == is_ours(config)
    linear = linked_config(readme(family), row['linear evaluation'])
    assert load(linear).model.backbone.type == cfg.model.backbone.type


@pytest.mark.parametrize('family', FAMILIES)
def test_readme_says_who_measured(family):
    assert 'none of them was re-run here' in ' '.join((ROOT / readme(family)).read_text().split()).replace('*', '')


def test_model_index_imports_every_metafile():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    assert sorted(index) == sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / 'configs').rglob('metafile.yml'))
    families = {*FAMILIES, 'benchmarks'}  # those of the latter: tests/test_benchmarks
    assert sorted(index) == sorted(f'configs/{family}/metafile.yml' for family in families)


@pytest.mark.parametrize('family', FAMILIES)
def test_metafile_has_the_fields_that_openmmlab_tools_read(family):
    meta = metafile(family)
    (collection,) = meta['Collections']
    assert (ROOT / collection['README']).is_file()
    assert collection['Paper'].keys() == {'Title', 'URL'}
    assert len({model['Name'] for model in meta['Models']}) == len(meta['Models'])
    for model in meta['Models']:
        assert model['In Collection'] == collection['Name']
        assert {'Name', 'Config', 'Metadata', 'Results'} <= model.keys()
        assert 'Weights' not in model, 'no weights are distributed'
        assert model['Name'] == f'{family}_{PurePosixPath(model["Config"]).stem}'
        assert PurePosixPath(model['Config']).parts[1] == family


@pytest.mark.parametrize(('family', 'model'), MODELS, ids=[model['Name'] for _, model in MODELS])
def test_metafile_model_is_the_config(family, model):
    cfg, table = load(model['Config']), table_of(model['Config'])
    assert model['Metadata']['Epochs'] == cfg.train_cfg.max_epochs
    if is_ours(model['Config']):
        return check_measured(model, cfg)
    assert model['Metadata']['Batch Size'] == table.gpus * table.images_per_gpu
    results = model['Results'] or []
    numbers = [result['Metrics']['Top 1 Accuracy'] for result in results]
    published = ACCURACIES.get(name_of(model['Config']))
    assert numbers == ([] if published is None else [published])
    assert all(result['Dataset'] == 'ImageNet-1k' and result['Source'] for result in results)


def check_measured(model, cfg):
    """Our own numbers say so, with seed, machine and time; none passes for a published one of linear evaluation."""
    assert model['Metadata']['Batch Size'] == cfg.train_dataloader.batch_size
    for told in (*(result['Source'] for result in model['Results']), model['Curve']['Source']):
        assert re.search(r'seed \d.*(EPYC|H200).* \d+ (CPU )?minutes', told), told
    assert all(result['Source'].startswith('measured here') for result in model['Results'])
    assert all(result['Dataset'] == model['Metadata']['Training Data'] != 'ImageNet-1k' for result in model['Results'])
    assert 'Linear evaluation' not in [result['Task'] for result in model['Results']]
    epochs, percent = [*model['Curve']['Percent']], [*model['Curve']['Percent'].values()]
    assert epochs == sorted(epochs) and epochs[0] == 0 and epochs[-1] == model['Curve']['Epochs']
    assert all(0 < value < 100 for value in percent)


def test_metafiles_list_every_published_recipe_and_those_measured_here():
    published = {name for name in PRETRAINING_TABLE | LINEAR_TABLE if not is_ours(name)}
    measured = {name_of(model['Config']) for _, model in MODELS if 'Curve' in model}
    assert {name_of(model['Config']) for _, model in MODELS} == published | measured
    assert measured == {'mocov3/resnet18_fashion', 'mocov3/resnet18-grid_fashion', 'mocov3/vit-tiny_digits'}


def test_top_readme_repeats_the_same_numbers():
    """Every row of README.md that links a config has that config's accuracy, batch and epochs, or leaves them out."""
    table = rows('README.md')
    assert table, 'README.md has no table of recipes with links to configs'
    for config, row in table.items():
        text = ' '.join(row.values())
        number = accuracy(text)
        assert number in (None, ACCURACIES.get(name_of(config))), f'README.md: {config} has {number}'
        if batch := re.search(r'(\d+) x (\d+)', text):
            recipe = table_of(config)
            assert (int(batch[1]), int(batch[2])) == (recipe.gpus, recipe.images_per_gpu), f'README.md: {config}'
        if 'epochs' in row:
            assert int(row['epochs']) == load(config).train_cfg.max_epochs, f'README.md: {config}'


def test_fidelity_page_names_tests_that_exist():
    paths = re.findall(r'`((?:tests|tools)/[\w/.]+\.py)', (ROOT / 'docs' / 'fidelity.md').read_text())
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).is_file()] == []
