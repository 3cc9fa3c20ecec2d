"""Loading: all of a backbone or an error that says why not; nothing initialises over it afterwards."""

import pytest
import torch
from mmengine.model import BaseModule
from torch import nn

from mocox.checkpoint import Pretrained, load_backbone, read
from mocox.checkpoint.files import save_tensors
from mocox.checkpoint.names import from_ours
from mocox.registry import MODELS
from tests.test_checkpoint.conftest import ARCH, CONV_VIT, RESNET, VIT, backbone, official_file, probe_file, same

MM_VIT = dict(type='mmpretrain.VisionTransformer', arch=ARCH, img_size=32, patch_size=8)


def build(config: dict) -> nn.Module:
    return MODELS.build(dict(config))


@pytest.mark.parametrize(('config', 'width'), [(VIT, 32), (CONV_VIT, 32), (RESNET, 64)])
@pytest.mark.parametrize('encoder', ['query', 'momentum'])
def test_official_files_fill_our_backbones(tmp_path, config, width, encoder):
    path = official_file(tmp_path / 'file.pth.tar', config, width)
    module = build(config)
    report = load_backbone(module, path, encoder)
    name = {'query': 'base_encoder', 'momentum': 'momentum_encoder'}[encoder]
    state = torch.load(path)['state_dict']
    loaded = module.state_dict()
    assert all(torch.equal(tensor, state[f'module.{name}.{key}']) for key, tensor in loaded.items())
    assert report.num_tensors == len(loaded)
    assert f'({encoder} encoder)' in str(report)


def test_mmpretrain_vit_and_timm_get_the_same_features(official_vit):
    ours, theirs = build(VIT), build(MM_VIT)
    timm = build(
        dict(
            type='mmpretrain.TIMMBackbone',
            model_name='vit_small_patch16_224',
            img_size=32,
            patch_size=8,
            embed_dim=32,
            depth=2,
            num_heads=4,
            mlp_ratio=2,
        )
    )
    for module in (ours, theirs, timm):
        load_backbone(module, official_vit)
        module.eval()
    x = torch.randn(2, 3, 32, 32)
    expected = ours(x)[0]
    assert torch.allclose(theirs(x)[0], expected, atol=1e-5)
    assert torch.allclose(timm(x)[0][:, 0], expected, atol=1e-5)


def test_wrong_architecture_is_named(official_vit, official_resnet):
    module = build(RESNET)
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    with pytest.raises(ValueError, match=r'does not fit ResNet: 0 of its \d+ tensors match') as error:
        load_backbone(module, official_vit)
    text = str(error.value)
    assert 'missing (' in text
    assert 'unexpected (' in text
    assert 'the file: facebookresearch/moco-v3; self-supervised' in text
    assert 'ViT of width 32, patch 8' in text
    assert 'the module: ResNet-18 of width 8' in text
    assert same(module.state_dict(), before)
    with pytest.raises(ValueError, match='the module: ViT of width 32'):
        load_backbone(build(VIT), official_resnet)


def test_lists_are_bounded_and_mismatches_show_both_shapes(official_vit):
    wide = dict(VIT, arch=dict(ARCH, embed_dims=64))
    with pytest.raises(
        ValueError, match=r'wrong shape \(\d+\): cls_token \(1, 1, 32\) instead of \(1, 1, 64\)'
    ) as error:
        load_backbone(build(wide), official_vit)
    assert len(str(error.value)) < 1500


@pytest.mark.parametrize('layers', [1, 3])
def test_depth_must_agree_both_ways(official_vit, layers):
    """A shallower module would silently drop blocks, a deeper one would keep random blocks."""
    with pytest.raises(ValueError, match='unexpected' if layers == 1 else 'missing'):
        load_backbone(build(dict(VIT, arch=dict(ARCH, num_layers=layers))), official_vit)


def test_stems_do_not_mix(tmp_path, official_vit):
    with pytest.raises(ValueError, match='convolutional stem'):
        load_backbone(build(CONV_VIT), official_vit)


def test_one_missing_tensor_is_an_error(tmp_path):
    state = backbone(VIT).state_dict()
    del state['blocks.1.norm2.bias']
    torch.save(state, tmp_path / 'file.pth')
    with pytest.raises(ValueError, match=r'missing \(1\): blocks\.1\.norm2\.bias'):
        load_backbone(build(VIT), tmp_path / 'file.pth')


def test_step_counters_may_be_missing(tmp_path):
    state = {key: tensor for key, tensor in backbone(RESNET).state_dict().items() if 'num_batches' not in key}
    torch.save(state, tmp_path / 'file.pth')
    load_backbone(build(RESNET), tmp_path / 'file.pth')


def test_parts_the_module_is_built_without(official_vit, official_resnet):
    report = load_backbone(build(dict(VIT, final_norm=False)), official_vit)
    assert 'not used, the module is built without: norm.weight, norm.bias' in report.notes
    report = load_backbone(build(dict(MM_VIT, final_norm=False)), official_vit)
    assert any('ln1.weight' in note for note in report.notes)
    report = load_backbone(
        build(dict(RESNET, num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))), official_resnet
    )
    assert any('layer4' in note for note in report.notes)


def test_a_classifier_in_the_module_is_explained(official_vit):
    import timm

    model = timm.create_model(
        'vit_small_patch16_224', img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2
    )
    with pytest.raises(ValueError, match='num_classes=0'):
        load_backbone(model, official_vit)


def test_a_whole_model_is_not_a_backbone(official_vit):
    with pytest.raises(ValueError, match='give init_cfg to its backbone'):
        load_backbone(nn.ModuleDict({'backbone': build(VIT)}), official_vit)


@pytest.mark.parametrize('config', [VIT, MM_VIT])
def test_known_number_of_heads_must_agree(tmp_path, config):
    save_tensors(tmp_path / 'file.pth', backbone(VIT).state_dict(), {'heads': 4})
    load_backbone(build(config), tmp_path / 'file.pth')
    eight = dict(config, arch=dict(ARCH, num_heads=8))
    with pytest.raises(ValueError, match='trained with 4 attention heads, .* has 8'):
        load_backbone(build(eight), tmp_path / 'file.pth')
    load_backbone(build(eight), tmp_path / 'file.pth', heads=8)
    with pytest.raises(ValueError, match='trained with 2 attention heads'):
        load_backbone(build(config), tmp_path / 'file.pth', heads=2)


def test_the_official_small_vit_needs_twelve_heads(tmp_path):
    small = dict(VIT, arch=dict(ARCH, embed_dims=384, num_heads=12))
    path = official_file(tmp_path / 'small.pth.tar', small, width=384, arch='vit_small')
    load_backbone(build(small), path)
    with pytest.raises(ValueError, match='trained with 12 attention heads, MoCoViT has 6'):
        load_backbone(build(dict(small, arch=dict(small['arch'], num_heads=6))), path)


def test_unknown_number_of_heads_is_said(tmp_path):
    torch.save({'model': backbone(VIT).state_dict()}, tmp_path / 'deit.pth')
    assert any(
        'does not say its number of attention heads' in note
        for note in load_backbone(build(VIT), tmp_path / 'deit.pth').notes
    )


@pytest.mark.parametrize('config', [VIT, MM_VIT])
@pytest.mark.parametrize(('size', 'grid'), [(48, (6, 6)), ((32, 48), (4, 6)), ((16, 64), (2, 8))])
def test_positions_are_interpolated_and_said(official_vit, config, size, grid):
    module = build(dict(config, img_size=size))
    report = load_backbone(module, official_vit)
    assert f'interpolated (bicubic) from 4 x 4 to {grid[0]} x {grid[1]}' in report.notes[0]
    given = read(official_vit).backbone()['pos_embed']
    assert torch.equal(module.pos_embed[:, 0], given[:, 0])
    # Interpolation keeps constants and the shape of ramps: check the mean and against torch's own operator.
    patches = given[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    expected = nn.functional.interpolate(patches, grid, mode='bicubic', antialias=True)
    assert torch.allclose(module.pos_embed[:, 1:], expected.flatten(2).transpose(1, 2))


def test_kind_and_channel_order_are_said(tmp_path, official_vit):
    assert any(
        'frozen self-supervised' in note
        for note in load_backbone(build(VIT), probe_file(tmp_path / 'probe.pth.tar')).notes
    )
    assert any('RGB images' in note for note in load_backbone(build(VIT), official_vit).notes)
    bgr = {'mean': [103.5, 116.3, 123.7], 'std': [1.0, 1.0, 1.0], 'channel_order': 'BGR', 'kind': 'fine-tuned'}
    save_tensors(tmp_path / 'caffe.pth', backbone(RESNET).state_dict(), bgr)
    notes = ' '.join(load_backbone(build(RESNET), tmp_path / 'caffe.pth').notes)
    assert 'BGR images' in notes
    assert 'fine-tuned' in notes


def test_a_probe_file_has_no_momentum_encoder(tmp_path):
    with pytest.raises(ValueError, match='no momentum encoder: it is .*linear'):
        load_backbone(build(VIT), probe_file(tmp_path / 'probe.pth.tar'), 'momentum')


def test_wrong_prefix(tmp_path, official_vit):
    with pytest.raises(ValueError, match=r"no tensor below prefix='backbone\.'"):
        load_backbone(build(VIT), official_vit, prefix='backbone.')
    torch.save(
        {'state_dict': {f'backbone.{k}': v for k, v in backbone(VIT).state_dict().items()}}, tmp_path / 'file.pth'
    )
    load_backbone(build(VIT), tmp_path / 'file.pth', prefix='backbone.')


INIT = [
    VIT,
    CONV_VIT,
    MM_VIT,
    dict(MM_VIT, type='mmpretrain.MoCoV3ViT', frozen_stages=1),
    RESNET,
    dict(RESNET, zero_init_residual=True),
]


@pytest.mark.parametrize('config', INIT)
@pytest.mark.parametrize('as_list', [False, True])
@pytest.mark.parametrize('scope', [None, 'mocox'])
def test_no_initialiser_runs_over_the_loaded_weights(tmp_path, config, as_list, scope):
    """MMEngine treats only the type 'Pretrained' specially, so this is ours to guarantee."""
    from mmengine.registry import init_default_scope

    if scope:
        init_default_scope(scope)
    source = backbone({key: value for key, value in config.items() if key != 'frozen_stages'}).state_dict()
    torch.save({'state_dict': {f'backbone.{key}': tensor for key, tensor in source.items()}}, tmp_path / 'file.pth')
    init = dict(type='mocox.Pretrained', checkpoint=str(tmp_path / 'file.pth'), prefix='backbone.')
    inner = [dict(type='Kaiming', layer='Conv2d'), init] if as_list else init
    model = BaseModule()
    model.backbone = build(dict(config, init_cfg=inner))
    model.head = nn.Linear(2, 2)
    model.init_weights()
    assert same(model.backbone.state_dict(), source)


def test_an_initialiser_listed_after_pretrained_is_an_error(official_vit):
    init = [dict(type='mocox.Pretrained', checkpoint=str(official_vit)), dict(type='Constant', layer='Linear', val=0.0)]
    with pytest.raises(ValueError, match='put Pretrained last'):
        build(dict(MM_VIT, init_cfg=init)).init_weights()


def test_the_algorithm_starts_both_encoders_from_the_file(official_vit):
    from tests.test_checkpoint.conftest import pretraining_model

    init = dict(type='mocox.Pretrained', checkpoint=str(official_vit), encoder='momentum')
    model = pretraining_model(dict(VIT, init_cfg=init))
    model.init_weights()
    expected = read(official_vit).backbone('momentum')
    assert same(model.backbone.state_dict(), expected)
    assert same(model.momentum_encoder.backbone.state_dict(), expected)


def test_plain_modules_can_be_initialised_too(tmp_path):
    torch.save(from_ours(backbone(VIT).state_dict(), 'torchvision'), tmp_path / 'file.pth')
    module = build(VIT)
    Pretrained(str(tmp_path / 'file.pth'))(module)
    assert same(module.state_dict(), read(tmp_path / 'file.pth').backbone())
