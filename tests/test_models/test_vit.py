"""MoCoViT against timm, formulas of the paper, and its error messages."""

from math import cos, sin, sqrt

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from mocox.models.backbones.vit import ARCHITECTURES, MoCoViT, sincos_position_embedding

TINY = dict(embed_dims=16, num_layers=2, num_heads=4, feedforward_channels=32)


def tiny(**kwargs) -> MoCoViT:
    return MoCoViT(**(dict(arch=TINY, img_size=8, patch_size=4) | kwargs))


def test_positions_equal_the_formula_row_first():
    embedding = sincos_position_embedding((2, 3), 8)[0]
    assert (embedding[0] == 0).all()
    row, column = 1, 2
    w = [10000 ** (-j / 2) for j in range(2)]
    expected = [f(p * v) for p in (row, column) for f in (sin, cos) for v in w]
    torch.testing.assert_close(embedding[1 + row * 3 + column], torch.tensor(expected), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ('arch', 'millions'),
    # parameters of a ViT: patches, positions, class token, blocks and norm, counted by hand for one architecture and
    # published for the others (arXiv 2010.11929, table 1: base 86, large 307, huge 632 with 16-pixel patches ~ 631)
    [('small', 21.67), ('base', 85.80), ('large', 303.3), ('huge', 630.8)],
)
def test_sizes(arch, millions):
    with torch.device('meta'):
        model = MoCoViT(arch)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=1e-3)


def test_small_has_twelve_heads_and_conv_stem_one_block_less():
    assert ARCHITECTURES['small']['num_heads'] == 12
    with torch.device('meta'):
        assert len(MoCoViT('small', stem='conv').blocks) == 11
        assert len(MoCoViT('small').blocks) == 12


def test_features_equal_timms():
    ours = tiny(out_type='raw').eval()
    reference = VisionTransformer(
        img_size=8, patch_size=4, embed_dim=16, depth=2, num_heads=4, mlp_ratio=2, num_classes=0
    ).eval()
    reference.load_state_dict(ours.state_dict())  # same names, all of them
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(ours(x)[0], reference.forward_features(x), rtol=1e-5, atol=1e-6)


def test_initialisation_ranges():
    model = MoCoViT(dict(embed_dims=64, num_layers=1, num_heads=4, feedforward_channels=256), img_size=32)
    block = model.blocks[0]
    for weight, bound in [
        (block.attn.qkv.weight, sqrt(6 / (64 + 64))),  # three 64 x 64 matrices
        (block.attn.proj.weight, sqrt(6 / (64 + 64))),
        (block.mlp.fc1.weight, sqrt(6 / (64 + 256))),
        (model.patch_embed.proj.weight, sqrt(6 / (3 * 16 * 16 + 64))),
    ]:
        assert weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / sqrt(3), rel=0.05)  # uniform on +- bound
    assert (block.attn.qkv.bias == 0).all() and (model.patch_embed.proj.bias == 0).all()
    assert model.cls_token.abs().max() < 1e-5


def test_frozen_parts():
    frozen = {name for name, p in tiny().named_parameters() if not p.requires_grad}
    assert frozen == {'pos_embed', 'patch_embed.proj.weight', 'patch_embed.proj.bias'}
    assert {n for n, p in tiny(stop_grad_conv1=False).named_parameters() if not p.requires_grad} == {'pos_embed'}
    conv = tiny(stem='conv', img_size=32, patch_size=16)
    assert {n for n, p in conv.named_parameters() if not p.requires_grad} == {'pos_embed'}


def test_fine_tuning_trains_everything():
    model = MoCoViT(TINY, img_size=32, stop_grad_conv1=False, learn_positions=True)
    model(torch.randn(2, 3, 32, 32))[0].sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_layer_depths():
    """Two blocks make four depths: the input, each block, all behind them."""
    model = MoCoViT(TINY, img_size=32)
    names = [
        'patch_embed.proj.bias',
        'cls_token',
        'pos_embed',
        'blocks.0.norm1.weight',
        'blocks.1.mlp.fc2.bias',
        'norm.bias',
    ]
    assert [model.get_layer_depth(name) for name in names] == [(0, 4), (0, 4), (0, 4), (1, 4), (2, 4), (3, 4)]
    assert [model.get_layer_depth(f'backbone.{name}', 'backbone.')[0] for name in names] == [0, 0, 0, 1, 2, 3]
    assert model.get_layer_depth('head.fc.weight', 'backbone.') == (3, 4)
    assert model.get_layer_depth('cls_token', 'backbone.') == (3, 4)


@pytest.mark.parametrize(
    ('out_type', 'shape'),
    [('cls_token', (2, 16)), ('avg_featmap', (2, 16)), ('featmap', (2, 16, 2, 3)), ('raw', (2, 7, 16))],
)
def test_output_types(out_type, shape):
    outputs = tiny(img_size=(8, 12), out_type=out_type, out_indices=[0, -1])(torch.randn(2, 3, 8, 12))
    assert [tuple(o.shape) for o in outputs] == [shape, shape]


def test_feature_map_keeps_the_patches_places():
    model = tiny(out_type='featmap', out_indices=[0])
    model.blocks = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Identity())
    x = torch.randn(1, 3, 8, 8)
    patch = model.patch_embed.proj(x)[0, :, 1, 0] + model.pos_embed[0, 1 + 2]
    torch.testing.assert_close(model(x)[0][0, :, 1, 0], patch)


def test_other_image_sizes_interpolate_the_positions():
    model = tiny(out_type='featmap')
    assert model(torch.randn(1, 3, 16, 12))[0].shape == (1, 16, 4, 3)


def test_conv_stem_layers():
    with torch.device('meta'):
        stem = MoCoViT('small', stem='conv').patch_embed.proj
    convolutions = [
        (m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0], m.bias is not None)
        for m in stem
        if isinstance(m, torch.nn.Conv2d)
    ]
    assert convolutions == [
        (3, 48, 3, 2, False), (48, 96, 3, 2, False), (96, 192, 3, 2, False), (192, 384, 3, 2, False),
        (384, 384, 1, 1, True),
    ]  # fmt: skip


def test_init_weights_draws_anew_and_init_cfg_wins():
    model = tiny(init_cfg=dict(type='Constant', layer='Linear', val=0.5))
    before = model.patch_embed.proj.weight.clone()
    model.init_weights()
    assert not torch.equal(model.patch_embed.proj.weight, before)
    assert (model.blocks[0].attn.qkv.weight == 0.5).all()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(arch='smal'), "arch='smal'"),
        (dict(arch=dict(embed_dims=16)), 'exactly the keys'),
        (dict(img_size=30), 'not divisible by the patch size 4.*32 x 32'),
        (dict(stem='convolution'), "stem='convolution'"),
        (dict(out_type='token'), "out_type='token'"),
        (dict(out_indices=[2]), '2 blocks, 0 to 1'),
        (dict(arch=TINY | dict(num_heads=3)), 'num_heads=3'),
        (dict(arch=TINY | dict(num_layers=0)), 'num_layers must be .* got 0'),
        (dict(arch=TINY | dict(num_layers='two')), "num_layers must be .* got 'two'"),
        (dict(patch_size=0), 'patch_size must be .* got 0'),
        (dict(stem='conv', patch_size=12, img_size=24), 'power of 2'),
        (dict(trim_last_block=True, out_type='avg_featmap'), "trim_last_block with out_type='avg_featmap'"),
        (dict(trim_last_block=True, out_indices=[0, 1]), r'out_indices=\[0, 1\]: what it leaves out'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny(**arguments)


def test_bad_input_size():
    with pytest.raises(ValueError, match='image size 10 x 8 is not divisible by the patch size 4'):
        tiny()(torch.randn(1, 3, 10, 8))


def test_works_in_an_mmpretrain_classifier():
    from mmpretrain.models import ImageClassifier

    head = dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=16, _scope_='mmpretrain')
    head['loss'] = dict(type='mmpretrain.CrossEntropyLoss')
    backbone = dict(type='mocox.MoCoViT', arch=TINY, img_size=8, patch_size=4)
    model = ImageClassifier(backbone, head=head, data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor'))
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 3)
