"""Recognising files by their content. The layouts are written down here from the projects' own sources."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mocox.checkpoint import mocox_to_official, official_to_mocox, read
from mocox.checkpoint.names import NAMINGS, from_ours, naming_of, to_ours
from mocox.checkpoint.provenance import parse_config
from mocox.checkpoint.reading import strip
from mocox.registry import MODELS
from tests.test_checkpoint.conftest import CONV_VIT, RESNET, VIT, backbone, pretraining_model, probe_file, same

OFFICIAL = json.loads(Path(__file__).parents[1].joinpath('data', 'official_keys.json').read_text())
CONFIGS = {
    'v3/vit_small': 'vit-small.py',
    'v3/vit_base': 'vit-base.py',
    'v3/vit_conv_small': 'vit-small-conv.py',
    'v3/vit_conv_base': 'vit-base-conv.py',
    'v3/resnet50': 'resnet50_100e.py',
}


def official_state(arch: str) -> dict[str, Tensor]:
    """Names and shapes of an official full-size file, in its order, without data."""
    table = OFFICIAL[arch]
    encoder = {**OFFICIAL.get(table.get('backbone'), {}), **table['encoder']}
    fast, slow = ('base_encoder', 'momentum_encoder') if arch.startswith('v3') else ('encoder_q', 'encoder_k')
    names = {key: shape for key, shape in table['other'].items() if key.startswith('queue')}
    names |= {f'{fast}.{key}': shape for key, shape in encoder.items()}
    names |= {f'{slow}.{key}': shape for key, shape in encoder.items()}
    names |= table['other']
    integer = ('num_batches_tracked', 'queue_ptr')
    return {
        f'module.{key}': torch.empty(
            shape, device='meta', dtype=torch.int64 if key.endswith(integer) else torch.float32
        )
        for key, shape in names.items()
    }


@pytest.mark.parametrize(
    ('arch', 'count'),
    [
        ('v3/vit_small', 342),
        ('v3/vit_base', 342),
        ('v3/vit_conv_small', 366),
        ('v3/vit_conv_base', 366),
        ('v3/resnet50', 663),
        ('v1/resnet50', 642),
        ('v2/resnet50', 646),
    ],
)
def test_official_states_translate_there_and_back(arch, count):
    official = official_state(arch)
    assert len(official) == count
    back = mocox_to_official(official_to_mocox(official))
    assert list(back) == list(official)
    assert all(back[key] is official[key] for key in official)


@pytest.mark.parametrize('arch', CONFIGS)
def test_our_full_size_models_have_exactly_the_official_tensors(arch):
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    init_default_scope('mocox')
    config = Config.fromfile(Path(__file__).parents[2] / 'configs' / 'mocov3' / CONFIGS[arch])
    with torch.device('meta' if 'vit' in arch else 'cpu'):  # mmpretrain's ResNet cannot be built without data
        model = MODELS.build(config.model)
    ours = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert ours == {key: tuple(tensor.shape) for key, tensor in official_to_mocox(official_state(arch)).items()}


@pytest.mark.parametrize(
    'extra', ['base_encoder.head.2.weight', 'predictor.8.weight', 'optimizer_state', 'teacher.cls_token']
)
def test_an_official_state_with_an_unknown_tensor_is_refused(extra):
    state = official_state('v3/vit_small')
    with pytest.raises(ValueError, match=extra.split('.')[0]):
        official_to_mocox({**state, f'module.{extra}': torch.empty(1)})


def test_a_mocox_state_with_an_unknown_tensor_is_refused():
    state = pretraining_model(VIT).state_dict()
    with pytest.raises(ValueError, match='adapter'):
        mocox_to_official({**state, 'adapter.weight': torch.empty(1)})


def test_probe_states_are_not_pretraining_states():
    with pytest.raises(ValueError, match='not an official pre-training state'):
        official_to_mocox({'module.cls_token': torch.empty(1, 1, 8), 'module.head.weight': torch.empty(2, 8)})


@pytest.mark.parametrize('naming', NAMINGS)
def test_vit_namings_are_bijections(naming):
    state = backbone(VIT).state_dict()
    theirs = from_ours(state, naming)
    assert naming_of(theirs) == naming
    assert same(to_ours(theirs, naming), state)


QUERY, SLOW = backbone(RESNET).state_dict(), backbone(RESNET).state_dict()
VIT_QUERY, VIT_SLOW = backbone(VIT).state_dict(), backbone(VIT).state_dict()


def below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in state.items()}


def head(prefix: str, width: int = 4) -> dict[str, Tensor]:
    return {f'{prefix}weight': torch.randn(width, width), f'{prefix}bias': torch.randn(width)}


def in_sequential(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A ResNet as nn.Sequential(*children): conv1, bn1, relu, maxpool, layer1, ..."""
    index = {'conv1': 0, 'bn1': 1, 'layer1': 4, 'layer2': 5, 'layer3': 6, 'layer4': 7}
    return {f'{prefix}{index[key.split(".")[0]]}.{key.split(".", 1)[1]}': tensor for key, tensor in state.items()}


def mm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return from_ours(state, 'mmpretrain')


QUEUE = {'queue': torch.randn(4, 8), 'queue_ptr': torch.zeros(1, dtype=torch.long)}
# (layout, tensors)
FILES = {
    'v1': (
        'facebookresearch/moco v1',
        {
            **QUEUE,
            **below('encoder_q.', QUERY),
            **head('encoder_q.fc.'),
            **below('encoder_k.', SLOW),
            **head('encoder_k.fc.'),
        },
    ),
    'v2': (
        'facebookresearch/moco v2',
        {
            **QUEUE,
            **below('encoder_q.', QUERY),
            **head('encoder_q.fc.0.'),
            **head('encoder_q.fc.2.'),
            **below('encoder_k.', SLOW),
            **head('encoder_k.fc.0.'),
            **head('encoder_k.fc.2.'),
        },
    ),
    'mmselfsup0': (
        'mmselfsup 0.x MoCo v1/v2',
        {
            **QUEUE,
            **below('encoder_q.0.', QUERY),
            **head('encoder_q.1.mlp.0.'),
            **below('encoder_k.0.', SLOW),
            **head('encoder_k.1.mlp.0.'),
            **below('backbone.', QUERY),
            **head('neck.mlp.0.'),
        },
    ),
    'mmselfsup0-v3': (
        'mmselfsup 0.x MoCo v3',
        {
            **below('base_encoder.0.', mm(VIT_QUERY)),
            **head('base_encoder.1.fc0.'),
            **below('momentum_encoder.0.', mm(VIT_SLOW)),
            **head('momentum_encoder.1.fc0.'),
            **below('backbone.', mm(VIT_QUERY)),
            **head('neck.fc0.'),
            **head('head.predictor.fc0.'),
        },
    ),
    'mmpretrain': (
        'mmpretrain or mmselfsup 1.x MoCo v1/v2',
        {
            **QUEUE,
            **below('backbone.', QUERY),
            **head('neck.fc.'),
            'encoder_k.steps': torch.tensor(3),
            **below('encoder_k.module.0.', SLOW),
            **head('encoder_k.module.1.fc.'),
        },
    ),
    'mmpretrain-v3': (
        'mmpretrain or mmselfsup 1.x MoCo v3',
        {
            **below('backbone.', mm(VIT_QUERY)),
            **head('neck.fc0.'),
            **head('head.predictor.fc0.'),
            'momentum_encoder.steps': torch.tensor(3),
            **below('momentum_encoder.module.0.', mm(VIT_SLOW)),
            **head('momentum_encoder.module.1.fc0.'),
        },
    ),
    'byol': (
        'mmpretrain or mmselfsup 1.x BYOL',
        {
            **below('backbone.', QUERY),
            **head('neck.fc0.'),
            **head('head.predictor.fc0.'),
            **below('target_net.module.0.', SLOW),
            **head('target_net.module.1.fc0.'),
        },
    ),
    'mocox': (
        'mocox',
        {
            **below('backbone.', QUERY),
            **head('neck.fc0.'),
            **below('momentum_encoder.backbone.', SLOW),
            **head('momentum_encoder.neck.fc0.'),
        },
    ),
    'solo': (
        'solo-learn',
        {
            **below('backbone.', QUERY),
            **head('classifier.'),
            **head('projector.0.'),
            **head('predictor.0.'),
            **below('momentum_backbone.', SLOW),
            **head('momentum_projector.0.'),
        },
    ),
    'solo-old': (
        'solo-learn 1.0.3 or older',
        {
            **below('encoder.', QUERY),
            **head('classifier.'),
            **head('projector.0.'),
            **below('momentum_encoder.', SLOW),
            **head('momentum_projector.0.'),
        },
    ),
    'lightly': (
        'lightly',
        {
            **in_sequential('backbone.', QUERY),
            **head('projection_head.layers.0.'),
            **in_sequential('backbone_momentum.', SLOW),
            **head('projection_head_momentum.layers.0.'),
            'criterion.memory_bank.bank': torch.ones(4, 8),
        },
    ),
    'lightly-benchmark': (
        'lightly',
        {
            **below('backbone.', SLOW),
            **head('projection_head.layers.0.'),
            **below('query_backbone.', QUERY),
            **head('query_projection_head.layers.0.'),
            **head('online_classifier.online_classifier.'),
        },
    ),
}


@pytest.mark.parametrize('name', FILES)
@pytest.mark.parametrize('wrapper', ['', 'module.'])
def test_pretraining_files(tmp_path, name, wrapper):
    layout, state = FILES[name]
    torch.save({'state_dict': below(wrapper, state)}, tmp_path / 'file.pth')
    found = read(tmp_path / 'file.pth')
    query, slow = (VIT_QUERY, VIT_SLOW) if name.endswith('-v3') else (QUERY, SLOW)
    assert found.layout == layout
    assert found.kind == 'self-supervised'
    assert found.encoders == ('query', 'momentum')
    assert found.unknown == []
    assert same(found.backbone('query'), query)
    assert same(found.backbone('momentum'), slow)


@pytest.mark.parametrize(
    ('state', 'container', 'kind'),
    [
        (below('backbone.', mm(VIT_QUERY)), 'state_dict', 'backbone'),
        (below('backbone.', from_ours(VIT_QUERY, 'mmseg')), 'state_dict', 'backbone'),
        (below('backbone.', mm(VIT_QUERY)) | head('head.fc.'), 'state_dict', 'classifier'),
        (below('backbone.', mm(VIT_QUERY)) | head('head.layers.head.'), 'state_dict', 'classifier'),
        (below('backbone.', VIT_QUERY) | head('classifier.'), 'state_dict', 'classifier'),
        (below('backbone.', mm(VIT_QUERY)) | head('decode_head.conv_seg.'), 'state_dict', 'fine-tuned'),
        (below('backbone.timm_model.', VIT_QUERY), 'state_dict', 'backbone'),
        (VIT_QUERY, 'model', 'backbone'),
        (mm(VIT_QUERY), 'state_dict', 'backbone'),  # mmselfsup's extracted files
        (VIT_QUERY | head('head.'), 'model', 'classifier'),
        (below('module._orig_mod.', VIT_QUERY), 'state_dict', 'backbone'),
        (from_ours(VIT_QUERY, 'torchvision') | head('heads.head.'), None, 'classifier'),
        (from_ours(VIT_QUERY, 'transformers') | head('pooler.dense.'), None, 'backbone'),
        (below('vit.', from_ours(VIT_QUERY, 'transformers')) | head('classifier.'), None, 'classifier'),
    ],
)
def test_files_with_one_vit(tmp_path, state, container, kind):
    torch.save({container: state} if container else state, tmp_path / 'file.pth')
    found = read(tmp_path / 'file.pth')
    assert found.kind == kind
    assert found.encoders == ('query',)
    assert same(found.backbone(), VIT_QUERY)
    assert found.arch | dict(embed_dims=32, num_layers=2, feedforward_channels=64, patch_size=8, grid=4) == found.arch
    assert len(found.classifier()) == (2 if kind == 'classifier' else 0)
    with pytest.raises(ValueError, match='has no momentum encoder'):
        found.backbone('momentum')


def test_resnet_files(tmp_path):
    torch.save(QUERY | head('fc.'), tmp_path / 'resnet.pth')
    found = read(tmp_path / 'resnet.pth')
    assert found.kind == 'classifier'
    assert found.arch['name'] == 'ResNet-18 of width 8'
    assert same(found.backbone(), QUERY)


def test_linear_and_fine_tuned_files_are_told_apart(tmp_path):
    found = read(probe_file(tmp_path / 'probe.pth.tar'))
    assert (found.kind, found.meta['epochs']) == ('linear', 90)
    moved = {i: {'step': 1} for i in range(30)}
    torch.save({'model': VIT_QUERY | head('head.'), 'optimizer': {'state': moved}}, tmp_path / 'tuned.pth')
    assert read(tmp_path / 'tuned.pth').kind == 'fine-tuned'


@pytest.mark.parametrize('arch', ['v3/vit_small', 'v3/vit_conv_base', 'v3/resnet50'])
def test_the_official_vits_have_twelve_heads(tmp_path, arch, monkeypatch):

    content = {'epoch': 300, 'arch': arch.split('/')[1], 'state_dict': official_state(arch)}
    monkeypatch.setattr('mocox.checkpoint.reading.open_file', lambda *_: (content, {}))
    found = read('any.pth.tar')
    assert found.arch['num_heads'] == (12 if 'vit' in arch else None)
    assert found.meta['channel_order'] == 'RGB'
    assert {'v3/vit_small': 'ViT-S/16', 'v3/vit_conv_base': 'ViT-B/16', 'v3/resnet50': 'ResNet-50'}[
        arch
    ] in found.summary


def test_stems_are_recognised(tmp_path):
    torch.save(backbone(CONV_VIT).state_dict(), tmp_path / 'conv.pth')
    arch = read(tmp_path / 'conv.pth').arch
    assert (arch['stem'], arch['patch_size']) == ('conv', 8)


MMENGINE_CONFIG = """
default_scope = 'mocox'
model = dict(
    type='LinearProbe',
    backbone=dict(type='MoCoViT', arch='small', init_cfg=None),
    data_preprocessor=dict(type='LabelledPreprocessor', mean=[1.0, 2.0, 3.0], std=[-4.0, 5.0, 6.0]))
bomb = open('/nowhere/ran', 'w')
"""


def test_a_training_run_says_what_it_was(tmp_path):
    """MMEngine keeps the config as Python text, which must not be executed."""
    meta = dict(cfg=MMENGINE_CONFIG, epoch=90, experiment_name='vit-small_linear_20250102_030405')
    torch.save(
        {'meta': meta, 'state_dict': below('backbone.', VIT_QUERY) | head('head.fc.')}, tmp_path / 'epoch_90.pth'
    )
    found = read(tmp_path / 'epoch_90.pth')
    assert found.kind == 'linear'
    assert found.arch['num_heads'] == 12
    expected = dict(epochs=90, recipe='vit-small_linear', mean=[1, 2, 3], std=[-4, 5, 6], channel_order='RGB')
    assert found.meta | expected == found.meta


def test_bgr_is_seen_in_a_config(tmp_path):
    cfg = 'data_preprocessor = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False)'
    torch.save({'meta': dict(cfg=cfg), 'state_dict': below('backbone.', QUERY)}, tmp_path / 'caffe.pth')
    assert read(tmp_path / 'caffe.pth').meta['channel_order'] == 'BGR'


@pytest.mark.parametrize('text', [None, 3, 'def', 'a = 1 +', 'x = dict(**y)', 'x = {[]: 1}', 'x = -"a"'])
def test_strange_configs_are_no_error(text):
    assert isinstance(parse_config(text), dict)


def test_prefixes(official_vit):
    found = read(official_vit)
    assert same(found.backbone(prefix='base_encoder.'), found.backbone('query'))
    assert same(found.backbone(prefix='momentum_encoder'), found.backbone('momentum'))
    assert len(found.backbone(prefix='predictor.')) == 6 + 4
    with pytest.raises(ValueError, match=r"prefix='backbone\.'.*base_encoder, momentum_encoder.*leave prefix out"):
        found.backbone(prefix='backbone.')
    with pytest.raises(ValueError, match="encoder='momentum' was asked for"):
        found.backbone('momentum', prefix='base_encoder.')
    with pytest.raises(ValueError, match="encoder='key'"):
        found.backbone('key')


def test_the_table_covers_every_tensor(official_vit):
    table = read(official_vit).table()
    assert json.loads(json.dumps(table))['coverage'] == 1
    assert table['tensors'] == len(table['keys']) == len(torch.load(official_vit)['state_dict'])


def test_strip():
    assert list(strip({'a.b': torch.ones(1), 'ab': torch.ones(1)}, 'a.')) == ['b']
