"""Writing: bit-equal round trips, and the other libraries compute our features from our files."""

import functools
import json

import pytest
import torch
from torch import nn

from mocox.checkpoint import convert, load_backbone, mocox_to_official, read
from mocox.checkpoint.usage import timm_arguments
from mocox.checkpoint.writing import TARGETS
from mocox.models.backbones.vit import ConvStem
from mocox.registry import MODELS
from tests.test_checkpoint.conftest import ARCH, CONV_VIT, RESNET, VIT, official_file, probe_file, same

SINGLE = [to for to in TARGETS if to != 'official']


def features(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    module.eval()
    with torch.no_grad():
        out = module(x)
    return out[-1] if isinstance(out, tuple) else out


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32)


@pytest.mark.parametrize('to', SINGLE)
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('encoder', ['query', 'momentum'])
def test_round_trip_of_a_vit(tmp_path, official_vit, to, suffix, encoder):
    out = tmp_path / f'out{suffix}'
    convert(official_vit, out, to, encoder, heads=4)
    expected, found = read(official_vit).backbone(encoder), read(out)
    assert same(found.backbone(encoder), expected)
    assert found.kind == 'self-supervised'
    assert found.arch['num_heads'] == 4
    if to != 'mocox':
        assert found.encoders == (encoder,)
    back = tmp_path / 'back.pth'
    convert(out, back, 'timm', encoder)
    assert same(torch.load(back, weights_only=True)['state_dict'], expected)


@pytest.mark.parametrize('to', ['openmmlab', 'mmseg', 'timm', 'torchvision', 'mocox'])
def test_round_trip_of_a_resnet(tmp_path, official_resnet, to):
    convert(official_resnet, tmp_path / 'out.pth', to)
    assert same(read(tmp_path / 'out.pth').backbone(), read(official_resnet).backbone())


@pytest.mark.parametrize(
    ('config', 'width', 'arch'), [(VIT, 32, 'vit_tiny'), (CONV_VIT, 32, 'vit_tiny'), (RESNET, 64, 'resnet18')]
)
def test_round_trip_of_a_whole_state(tmp_path, config, width, arch):
    official = official_file(tmp_path / 'official.pth.tar', config, width, arch)
    convert(official, tmp_path / 'mocox.pth', 'mocox')
    convert(tmp_path / 'mocox.pth', tmp_path / 'back.pth.tar', 'official')
    before, after = torch.load(official), torch.load(tmp_path / 'back.pth.tar')
    assert list(after['state_dict']) == list(before['state_dict'])
    assert same(after['state_dict'], before['state_dict'])
    assert after['epoch'] == 300
    assert read(tmp_path / 'back.pth.tar').encoders == ('query', 'momentum')


def test_a_training_checkpoint_with_an_mmpretrain_vit_becomes_official(tmp_path):
    from tests.test_checkpoint.conftest import pretraining_model

    mm_vit = dict(type='mmpretrain.VisionTransformer', arch=ARCH, img_size=32, patch_size=8)
    model = pretraining_model(mm_vit)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'epoch_1.pth')
    convert(tmp_path / 'epoch_1.pth', tmp_path / 'official.pth.tar', 'official')
    convert(official_file(tmp_path / 'other.pth.tar', VIT), tmp_path / 'ours.pth', 'mocox')
    assert read(tmp_path / 'official.pth.tar').backbone().keys() == read(tmp_path / 'ours.pth').backbone().keys()
    with pytest.raises(ValueError, match='names of mmpretrain'):
        mocox_to_official(model.state_dict())


@pytest.mark.parametrize(('config', 'stem'), [(VIT, 'patch'), (CONV_VIT, 'conv')])
def test_timm_computes_our_features(tmp_path, images, config, stem):
    import timm

    official = official_file(tmp_path / 'official.pth.tar', config)
    notes = convert(official, tmp_path / 'timm.pth', 'timm', heads=4)
    ours = MODELS.build(config)
    load_backbone(ours, official)
    name, kwargs = timm_arguments(read(tmp_path / 'timm.pth').arch)
    assert notes[0].startswith(
        'timm.create_model(' + ', '.join([repr(name), *(f'{k}={v!r}' for k, v in kwargs.items())])
    )
    if stem == 'conv':
        assert 'ConvStem' in notes[0]
        kwargs['embed_layer'] = functools.partial(ConvStem, norm_cfg=dict(type='BN'))
    model = timm.create_model(name, **kwargs, checkpoint_path=str(tmp_path / 'timm.pth'))
    assert torch.allclose(features(model, images), features(ours, images), atol=1e-5)


def test_timm_arguments_of_the_published_sizes():
    small = dict(
        family='vit', embed_dims=384, num_layers=12, num_heads=12, patch_size=16, grid=14, feedforward_channels=1536
    )
    assert timm_arguments(small) == ('vit_small_patch16_224', {'num_classes': 0, 'num_heads': 12})
    base = dict(small, embed_dims=768, feedforward_channels=3072, num_layers=11)
    assert timm_arguments(base) == ('vit_base_patch16_224', {'num_classes': 0, 'num_heads': 12, 'depth': 11})
    assert timm_arguments(dict(family='resnet', depth=50)) == ('resnet50', {'num_classes': 0})


def test_torchvision_vit_computes_our_features(tmp_path, official_vit, images):
    from torchvision.models import VisionTransformer

    convert(official_vit, tmp_path / 'tv.pth', 'torchvision')
    ours = MODELS.build(VIT)
    load_backbone(ours, official_vit)
    model = VisionTransformer(image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64)
    model.heads = nn.Identity()
    model.load_state_dict(torch.load(tmp_path / 'tv.pth')['state_dict'])
    assert torch.allclose(features(model, images), features(ours, images), atol=1e-5)


def test_torchvision_and_mmpretrain_resnet_compute_our_features(tmp_path, images):
    """Full width: torchvision has no other."""
    from torchvision.models import resnet18

    config = dict(type='mmpretrain.ResNet', depth=18, out_indices=(3,))
    official = official_file(tmp_path / 'official.pth.tar', config, width=512, arch='resnet18')
    ours = MODELS.build(config)
    load_backbone(ours, official)
    expected = features(ours, images).mean(dim=(2, 3))
    convert(official, tmp_path / 'tv.pth', 'torchvision')
    theirs = resnet18()
    theirs.fc = nn.Identity()
    theirs.load_state_dict(torch.load(tmp_path / 'tv.pth')['state_dict'])
    assert torch.allclose(features(theirs, images), expected, rtol=1e-4)


class MMSegViT(nn.Module):
    """mmseg's VisionTransformer (with final_norm=True) from mmcv's parts, names and order as in its source."""

    def __init__(self) -> None:
        super().__init__()
        from mmcv.cnn.bricks.transformer import FFN, MultiheadAttention, PatchEmbed

        self.img_size, self.patch_size = (32, 32), 8
        self.patch_embed = PatchEmbed(embed_dims=32, kernel_size=8, stride=8)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 32))
        self.pos_embed = nn.Parameter(torch.zeros(1, 17, 32))
        self.layers = nn.ModuleList(nn.Module() for _ in range(2))
        for layer in self.layers:
            layer.ln1, layer.ln2 = nn.LayerNorm(32, eps=1e-6), nn.LayerNorm(32, eps=1e-6)
            layer.attn = MultiheadAttention(32, 4, batch_first=True, bias=True)
            layer.ffn = FFN(32, 64, act_cfg=dict(type='GELU'))
        self.ln1 = nn.LayerNorm(32, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(x)[0]
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        for layer in self.layers:
            normed = layer.ln1(x)
            x = layer.attn(normed, identity=x)
            x = layer.ffn(layer.ln2(x), identity=x)
        return self.ln1(x)[:, 0]


def test_mmseg_computes_our_features(tmp_path, official_vit, images):
    convert(official_vit, tmp_path / 'mmseg.pth', 'mmseg', heads=4)
    ours, written, loaded = MODELS.build(VIT), MMSegViT(), MMSegViT()
    load_backbone(ours, official_vit)
    state = torch.load(tmp_path / 'mmseg.pth')['state_dict']
    written.load_state_dict({key.removeprefix('backbone.'): tensor for key, tensor in state.items()})
    load_backbone(loaded, official_vit)
    assert torch.allclose(features(written, images), features(ours, images), atol=1e-5)
    assert same(loaded.state_dict(), written.state_dict())


def test_notes_name_what_the_reader_must_do(tmp_path, official_vit, official_resnet):
    out = tmp_path / 'out.pth'
    assert any('does not say its number of attention heads' in note for note in convert(official_vit, out, 'timm'))
    assert 'num_classes=10' in convert(probe_file(tmp_path / 'probe.pth.tar'), out, 'timm')[0]
    assert convert(official_resnet, out, 'torchvision')[0].startswith('torchvision has no ResNet-18 of width 8')
    assert 'depth=18' in convert(official_resnet, out, 'openmmlab')[0]
    assert 'img_size=32, patch_size=8' in convert(official_vit, out, 'openmmlab')[0]


@pytest.mark.parametrize('family', ['vit', 'resnet'])
def test_mmengines_own_initialiser_loads_the_openmmlab_file(tmp_path, images, family, request):
    official = request.getfixturevalue(f'official_{family}')
    vit = dict(type='mmpretrain.VisionTransformer', arch=ARCH, img_size=32, patch_size=8)
    config = vit if family == 'vit' else RESNET
    notes = convert(official, tmp_path / 'mm.pth', 'openmmlab', heads=4)
    assert "prefix='backbone.'" in notes[0]
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'mm.pth'), prefix='backbone.')
    model = MODELS.build(dict(config, init_cfg=init))
    model.init_weights()
    ours = MODELS.build(VIT if family == 'vit' else RESNET)
    load_backbone(ours, official)
    assert torch.allclose(features(model, images), features(ours, images), atol=1e-5)


def test_transformers_computes_our_features(tmp_path, official_vit, images):
    transformers = pytest.importorskip('transformers')
    convert(official_vit, tmp_path / 'hf', 'transformers', heads=4)
    model, info = transformers.ViTModel.from_pretrained(
        tmp_path / 'hf', add_pooling_layer=False, output_loading_info=True
    )
    assert not any(info[key] for key in ('missing_keys', 'unexpected_keys', 'mismatched_keys'))
    ours = MODELS.build(VIT)
    load_backbone(ours, official_vit)
    hidden = features(model, images).last_hidden_state
    assert torch.allclose(hidden[:, 0], features(ours, images), atol=1e-5)


def test_the_transformers_directory(tmp_path, official_vit):
    with pytest.raises(ValueError, match='--heads'):
        convert(official_vit, tmp_path / 'hf', 'transformers')
    convert(official_vit, tmp_path / 'hf', 'transformers', heads=4)
    config = json.loads((tmp_path / 'hf' / 'config.json').read_text())
    expected = dict(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=32, patch_size=8
    )
    assert config | expected | dict(model_type='vit', layer_norm_eps=1e-6, num_channels=3, qkv_bias=True) == config
    images = json.loads((tmp_path / 'hf' / 'preprocessor_config.json').read_text())
    assert images['image_mean'] == pytest.approx([0.485, 0.456, 0.406])
    load_backbone(MODELS.build(VIT), tmp_path / 'hf')
    (tmp_path / 'hf' / 'model.safetensors').rename(tmp_path / 'elsewhere.safetensors')
    assert read(tmp_path / 'elsewhere.safetensors').arch['num_heads'] == 4


@pytest.mark.parametrize('to', SINGLE)
def test_metadata(tmp_path, official_vit, to):
    convert(official_vit, tmp_path / 'out', to, 'momentum', heads=4, backbone_only=True)
    meta = read(tmp_path / 'out').meta
    expected = dict(
        kind='self-supervised',
        encoder='momentum',
        recipe='vit_tiny',
        epochs=300,
        heads=4,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        channel_order='RGB',
    )
    assert meta | expected == meta
    assert meta['mocox_version']


@pytest.mark.parametrize(
    ('to', 'weight'),
    [
        ('timm', 'head.weight'),
        ('torchvision', 'heads.head.weight'),
        ('openmmlab', 'head.fc.weight'),
        ('official', 'module.head.weight'),
    ],
)
def test_classifiers_travel_along(tmp_path, to, weight):
    probe = probe_file(tmp_path / 'probe.pth.tar')
    convert(probe, tmp_path / 'out.pth', to)
    assert torch.equal(
        torch.load(tmp_path / 'out.pth')['state_dict'][weight], torch.load(probe)['state_dict']['module.head.weight']
    )
    assert read(tmp_path / 'out.pth').kind == 'linear'
    assert same(read(tmp_path / 'out.pth').backbone(), read(probe).backbone())


def test_what_a_format_cannot_express(tmp_path, official_vit, official_resnet):
    conv = official_file(tmp_path / 'conv.pth.tar', CONV_VIT)
    for to in ('openmmlab', 'mmseg', 'torchvision', 'transformers'):
        with pytest.raises(ValueError, match=f'{to} has no convolutional stem'):
            convert(conv, tmp_path / 'out', to, heads=4)
    with pytest.raises(ValueError, match='transformers cannot express ResNet-18'):
        convert(official_resnet, tmp_path / 'out', 'transformers')
    scaled = read(official_vit).backbone() | {'blocks.0.ls1.gamma': torch.ones(32)}
    torch.save(scaled, tmp_path / 'scaled.pth')
    with pytest.raises(ValueError, match=r'no place for 1 of the tensors: blocks\.0\.ls1\.gamma'):
        convert(tmp_path / 'scaled.pth', tmp_path / 'out', 'openmmlab')
    torch.save({'stages.0.weight': torch.ones(1)}, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='cannot express unknown architecture'):
        convert(tmp_path / 'other.pth', tmp_path / 'out', 'openmmlab')
    with pytest.raises(ValueError, match='not a whole pre-training state'):
        convert(tmp_path / 'scaled.pth', tmp_path / 'out', 'official')
    assert not (tmp_path / 'out').exists()


def test_wrong_arguments(tmp_path, official_vit):
    with pytest.raises(ValueError, match="to='keras'"):
        convert(official_vit, tmp_path / 'out', 'keras')
    with pytest.raises(ValueError, match='is the input'):
        convert(official_vit, official_vit, 'timm')
    with pytest.raises(ValueError, match='no momentum encoder'):
        convert(probe_file(tmp_path / 'probe.pth.tar'), tmp_path / 'out', 'timm', 'momentum')
