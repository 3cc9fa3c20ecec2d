"""Modules instead of configs, widths that are found, and errors that say what a backbone has given."""

import copy
import logging

import pytest
import timm
import torch
from torch import nn

from mocox.models import ContrastiveHead, LinearProbe, MoCo, MoCoV3, NonLinearNeck, PooledBackbone
from mocox.models.parts import feature_width
from mocox.registry import MODELS
from mocox.run.options import prepare_config
from tests.support.small_models import VIT, config, moco_config


class Own(nn.Module):
    """One convolution, and what its name says."""

    def __init__(self, gives: str, width: int = 16, channels: int = 3) -> None:
        super().__init__()
        self.gives, self.embed = gives, nn.Conv2d(channels, width, 4, stride=4)

    def forward(self, x):
        x = self.embed(x)
        return {
            'map': x,
            'vector': x.mean((2, 3)),
            'tuple': (x[:, :, ::2], x),
            'list': [x.mean((2, 3))],
            'tokens': x.flatten(2).mT,
            'channels last': x.permute(0, 2, 3, 1),
            'dict': dict(last=x),
            'nothing': None,
            'no tensors': (1, 2),
            'windows': x.unfold(2, 1, 1).permute(0, 2, 1, 3, 4).flatten(0, 1).flatten(2),
        }[self.gives]


def views(n: int = 4, channels: int = 3) -> list[torch.Tensor]:
    return list(torch.randn(2, n, channels, 16, 16, generator=torch.Generator().manual_seed(1)))


def build(backbone, **kwargs) -> MoCoV3:
    torch.manual_seed(0)
    cfg = config(backbone)
    del cfg['neck']['in_channels']
    cfg.pop('type')
    return MoCoV3(**cfg, **kwargs)


@pytest.mark.parametrize('gives', ['map', 'vector', 'tuple', 'list'])
def test_a_module_of_your_own_is_used_as_it_is(gives):
    module = Own(gives)
    before = copy.deepcopy(module)
    model = build(module)
    model.init_weights()
    assert model.backbone is module
    assert torch.equal(module.embed.weight, before.embed.weight)
    (x, _) = views()
    expected = before.embed(x).mean((2, 3))
    torch.testing.assert_close(model.extract_feat(x), expected)
    torch.testing.assert_close(model.encode_queries([x])[0], model.neck((expected,))[0])
    torch.testing.assert_close(LinearProbe(module, nn.Linear(16, 2)).extract_feat(x)[0], expected)


@pytest.mark.parametrize('chunk_size', [None, 2])
@pytest.mark.parametrize(
    ('gives', 'message'),
    [
        ('dict', 'Own gives a dict: a tensor, or a tuple of tensors'),
        ('nothing', 'Own gives a NoneType: a tensor'),
        ('no tensors', 'Own gives a tuple of int: a tensor'),
        ('tokens', r'Own gives features of shape \(.*\), tokens \(B, N, C\): .*PooledBackbone'),
        ('channels last', r'Own gives a map of shape .*channels last \(B, H, W, C\): .*PooledBackbone'),
        ('windows', r'Own gives features of shape \(\d+, 16, \d+\) for \d images: '),
    ],
)
def test_another_kind_is_named(gives, message, chunk_size):
    model = MODELS.build(config(VIT, chunk_size=chunk_size))
    model.backbone = Own(gives)
    for use in (lambda: model(views(), mode='loss'), lambda: model.extract_feat(views()[0])):
        with pytest.raises((TypeError, ValueError), match=message):
            use()
    with pytest.raises((TypeError, ValueError), match=message):
        build(Own(gives))


@pytest.mark.parametrize(
    ('gives', 'pool', 'prefix', 'expected'),
    [
        ('tokens', 'first', 0, lambda x: x[:, :, 0, 0]),
        ('tokens', 'mean', 0, lambda x: x.mean((2, 3))),
        ('tokens', 'mean', 1, lambda x: x.flatten(2)[:, :, 1:].mean(2)),
        ('channels last', 'mean', 0, lambda x: x.mean((2, 3))),
    ],
)
def test_tokens_are_pooled_as_asked(gives, pool, prefix, expected):
    module = Own(gives)
    model = build(PooledBackbone(module, pool, prefix))
    x, _ = views()
    torch.testing.assert_close(model.extract_feat(x), expected(module.embed(x)))


@pytest.mark.parametrize(('gives', 'pool'), [('vector', 'mean'), ('map', 'first'), ('channels last', 'first')])
def test_what_cannot_be_pooled(gives, pool):
    with pytest.raises(ValueError, match=f"Own gives features of shape .*: pool='{pool}' needs tokens"):
        PooledBackbone(Own(gives), pool)(views()[0])
    with pytest.raises(ValueError, match="pool='cls': choose 'first' or 'mean'"):
        PooledBackbone(Own(gives), 'cls')


@pytest.mark.parametrize(('grid', 'cut'), [(1, [slice(0, 4)]), (2, [slice(0, 2), slice(2, 4)])])
def test_a_map_is_averaged_in_parts(grid, cut):
    """By hand: of a map of 4 x 4, and the weights of mmpretrain's class under the same names."""
    settings = dict(depth=18, stem_channels=4, base_channels=4, strides=(1, 2, 2, 1))
    plain = MODELS.build(dict(settings, type='mmpretrain.ResNet_CIFAR'))
    model = MODELS.build(dict(settings, type='GridPooledResNet', grid=grid))
    model.load_state_dict(plain.state_dict())
    plain.eval(), model.eval()
    x, _ = views()
    found, features = plain(x)[-1], copy.deepcopy(model)(x)[-1]

    def parts(of):
        return torch.stack([of[:, :, rows, columns].mean((2, 3)) for rows in cut for columns in cut], dim=2).flatten(1)

    torch.testing.assert_close(features, parts(found))
    torch.testing.assert_close(model.forward_map(x)[-1], found)
    assert feature_width(model) == 32 * grid**2
    both = MODELS.build(dict(settings, type='GridPooledResNet', grid=grid, out_indices=(2, 3)))
    both.load_state_dict(plain.state_dict())
    both.eval()
    torch.testing.assert_close(both(x)[-1], torch.cat([parts(both.forward_map(x)[0]), features], dim=1))


@pytest.mark.parametrize('grid', [0, 1.5, True])
def test_a_grid_has_whole_cells(grid):
    with pytest.raises(ValueError, match=f'grid={grid}: a whole number of cells a side, from 1 on'):
        MODELS.build(dict(type='GridPooledResNet', depth=18, grid=grid))


def test_a_grid_that_is_larger_than_the_map():
    model = MODELS.build(dict(type='GridPooledResNet', depth=18, stem_channels=4, base_channels=4, grid=3))
    with pytest.raises(ValueError, match=r'grid=3 of a GridPooledResNet, but a map has \(2, 2\) positions'):
        model(torch.zeros(2, 3, 16, 16))
    with pytest.raises(TypeError, match="GridPooledResNet has no argument 'grdi'; it takes .*grid, "):
        MODELS.build(dict(type='GridPooledResNet', depth=18, grdi=2))
    with pytest.raises(TypeError, match="'grid'"):
        MODELS.build(dict(type='GridPooledResNet', depth=18))


@pytest.mark.parametrize('width', [16, 24])
@pytest.mark.parametrize('channels', [1, 3, 5])
def test_the_width_is_found(width, channels):
    module = Own('map', width, channels)
    state, random = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    assert feature_width(module) == width
    assert module.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(t, state[key]) for key, t in module.state_dict().items())


class Stubborn(Own):
    """Reads a number, which tensors without numbers refuse; takes images of 64 px alone; has statistics."""

    def __init__(self) -> None:
        super().__init__('map')
        self.norm = nn.BatchNorm2d(16)

    def forward(self, x):
        if x.shape[-1] != 64:
            raise ValueError('64 px')
        return self.norm(super().forward(x)) * float(self.embed.weight.detach().sum() * 0 + 1)


def test_the_width_is_found_where_shapes_alone_do_not_tell():
    module = Stubborn()
    assert feature_width(module) == 16
    assert module.norm.num_batches_tracked == 0


def test_a_width_that_cannot_be_found():
    with pytest.raises(ValueError, match=r'Linear: no image of 224, .* Set in_channels of the neck or head'):
        feature_width(nn.Linear(5, 2))


@pytest.mark.parametrize(
    ('backbone', 'width'),
    [
        (VIT, 16),
        (dict(VIT, out_type='featmap'), 16),
        (moco_config()['backbone'], 32),
        (dict(type='TIMMBackbone', model_name='mobilenetv4_conv_small_050'), 1280),
        (dict(type='TIMMBackbone', model_name='vit_tiny_patch16_224', img_size=48, depth=1), 192),
    ],
)
def test_a_neck_or_head_without_in_channels(backbone, width):
    assert build(backbone).neck.fc0.in_features == width
    head = dict(type='LinearClsHead', _scope_='mmpretrain', num_classes=2)
    assert MODELS.build(dict(type='LinearProbe', backbone=backbone, head=head)).head.fc.in_features == width


def test_weights_are_those_of_a_width_that_was_given():
    torch.manual_seed(0)
    given = MODELS.build(config(VIT))
    found = build(VIT)
    for key, tensor in given.state_dict().items():
        assert torch.equal(tensor, found.state_dict()[key])


def test_a_trained_model_of_timm_stays_trained():
    """It has an init_weights of its own, which MMEngine would call."""
    module = timm.create_model('vit_tiny_patch16_224', num_classes=0, depth=1, embed_dim=24, num_heads=2, img_size=32)
    before = copy.deepcopy(module.state_dict())
    head = ContrastiveHead(temperature=0.2)
    model = MoCo(module, NonLinearNeck(24, 16, 8), head, queue_len=8, feat_dim=8)
    model.init_weights()
    for key, tensor in before.items():
        assert torch.equal(model.backbone.state_dict()[key], tensor)
        assert torch.equal(model.momentum_encoder.backbone.state_dict()[key], tensor)


def test_initial_weights_are_not_listed(capfd):
    logging.getLogger('mmengine').setLevel(logging.INFO)
    build(VIT).init_weights()
    out, err = capfd.readouterr()
    assert 'fc0.weight' not in out + err


@pytest.mark.parametrize(('option', 'width'), [('model.backbone.arch', 192), ('model.backbone.patch_size', 384)])
def test_an_option_that_changes_the_backbone_is_enough(option, width):
    value = 'tiny' if option.endswith('arch') else 8
    cfg = prepare_config('mocov3/vit-small_custom', cfg_options={option: value}).model
    cfg.backbone.update(img_size=32)
    cfg.neck.update(hid_channels=8)
    with torch.device('meta'):
        assert MODELS.build(cfg).neck.fc0.in_features == width
    kept = prepare_config('mocov3/vit-small_custom', cfg_options={option: value, 'model.neck.in_channels': 7}).model
    assert kept.neck.in_channels == 7
