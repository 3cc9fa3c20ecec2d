"""One way to open a config: a file, one of the package, or one that is open already; anything else is named."""

import pytest
from mmengine.config import Config
from yaml import YAMLError

from mocox.configs import config_folder, open_config, published_models


def test_a_file_and_an_open_config():
    config = open_config(config_folder() / 'mocov3/vit-small.py')
    assert config.model.type == 'MoCoV3'
    assert open_config(config) is config
    assert isinstance(config, Config)


@pytest.mark.parametrize(
    ('name', 'kind', 'message'),
    [
        ('nowhere.py', FileNotFoundError, 'there is no config file .*nowhere.py'),
        ('weights.pth', ValueError, r'weights.pth is not a config \(.py, .json, .yaml, .yml\)'),
    ],
)
def test_what_is_no_config_is_named(tmp_path, name, kind, message):
    (tmp_path / 'weights.pth').write_bytes(b'PK')
    with pytest.raises(kind, match=message):
        open_config(tmp_path / name)


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        ('runs.yml', 'model: !!python/object/apply:os.system ["touch {witness}"]\n'),
        ('base.py', "_base_ = ['runs.yml']\n"),
        ('bomb.yml', 'a: &a [1, 1]\n' + ''.join(f'a{n}: &a{n} [*a, *a]\n' for n in range(11))),
        ('deep.yml', '[' * 1500),
        ('deep.json', '[' * 100_000),
        ('list.json', '[1]'),
        ('number.yaml', '5'),
    ],
)
def test_yaml_and_json_hold_plain_values(tmp_path, name, content):
    witness = tmp_path / 'witness'
    (tmp_path / 'runs.yml').write_text(f'model: !!python/object/apply:os.system ["touch {witness}"]\n')
    (tmp_path / name).write_text(content.replace('{witness}', str(witness)))
    with pytest.raises((ValueError, YAMLError), match='not a mapping of plain val|could not determine a constructor'):
        open_config(tmp_path / name)
    assert not witness.exists()


def test_a_yaml_config_with_a_few_aliases(tmp_path):
    (tmp_path / 'a.yml').write_text('a: &a {x: 1}\nb: *a\nc:\n  <<: *a\n  y: 2\n')
    assert open_config(tmp_path / 'a.yml').to_dict() == dict(a=dict(x=1), b=dict(x=1), c=dict(x=1, y=2))


def test_published_models_come_with_their_paper():
    models = {model['Name']: model for model in published_models()}
    assert models['mocov3_vit-base']['Results'][0]['Metrics'] == {'Top 1 Accuracy': 76.7}  # official CONFIG.md
    assert models['mocov3_vit-base']['Paper']['URL'] == 'https://arxiv.org/abs/2104.02057'
    assert 'mocov3_vit-small_linear' not in models
