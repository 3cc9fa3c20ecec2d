"""One way to open a config: a file, one of the package, or one that is open already; anything else is named."""

import pytest
from mmengine.config import Config

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
        ('weights.pth', ValueError, r'weights.pth is no config \(.py, .json, .yaml, .yml\)'),
    ],
)
def test_what_is_no_config_is_named(tmp_path, name, kind, message):
    (tmp_path / 'weights.pth').write_bytes(b'PK')
    with pytest.raises(kind, match=message):
        open_config(tmp_path / name)


def test_published_models_come_with_their_paper():
    models = {model['Name']: model for model in published_models()}
    assert models['mocov3_vit-base']['Results'][0]['Metrics'] == {'Top 1 Accuracy': 76.7}  # official CONFIG.md
    assert models['mocov3_vit-base']['Paper']['URL'] == 'https://arxiv.org/abs/2104.02057'
    assert 'mocov3_vit-small_linear' not in models
