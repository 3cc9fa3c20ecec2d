"""DINOv2's and DINOv3's files in three layouts, against transformers and timm with the same weights."""

import re

import pytest
import timm
import torch
import transformers
from timm.models import convnext, eva, vision_transformer
from torch import Tensor, nn

from mocox.checkpoint import load_backbone, read
from mocox.models import MoCoViT, TIMMBackbone
from tests.test_checkpoint.conftest import perturbed

WIDTH, DEPTH, HEADS = 24, 2, 2
SIZES = dict(hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS)
V2, V3 = dict(SIZES, patch_size=14, image_size=42), dict(SIZES, patch_size=16, image_size=48)
ARGUMENTS = dict(embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS)
GATED = dict(intermediate_size=32, num_register_tokens=4, use_gated_mlp=True, hidden_act='silu')
WIDE = dict(hidden_sizes=[8, 8, 8, 16], depths=[1, 2, 1, 1])
# Config and model of transformers, arguments, timm's model with its arguments, side of the images.
MEMBERS = {
    'v2': ('Dinov2', V2, 'vit_small_patch14_dinov2', dict(ARGUMENTS, img_size=42), 42),
    'v2 registers': ('Dinov2WithRegisters', V2, 'vit_small_patch14_reg4_dinov2', dict(ARGUMENTS, img_size=42), 42),
    'v2 gated': (
        'Dinov2',
        dict(V2, use_swiglu_ffn=True),
        'vit_giant_patch14_dinov2',
        dict(ARGUMENTS, img_size=42, mlp_ratio=128 / 24),
        42,
    ),
    'v3': (
        'DINOv3ViT',
        dict(V3, intermediate_size=96, num_register_tokens=4),
        'vit_small_patch16_dinov3_qkvb',
        dict(ARGUMENTS, img_size=48),
        48,
    ),
    'v3 gated': (
        'DINOv3ViT',
        dict(V3, **GATED),
        'vit_small_plus_patch16_dinov3_qkvb',
        dict(ARGUMENTS, img_size=48, mlp_ratio=32 / 24),
        48,
    ),
    'v3 convnext': ('DINOv3ConvNext', WIDE, 'convnext_tiny', dict(depths=(1, 2, 1, 1), dims=(8, 8, 8, 16)), 64),
}


def of_transformers(member: str) -> nn.Module:
    name, arguments, *_ = MEMBERS[member]
    torch.manual_seed(0)
    config = getattr(transformers, f'{name}Config')(**arguments)
    return perturbed(getattr(transformers, f'{name}Model')(config))


def of_timm(member: str, **kwargs) -> TIMMBackbone:
    _, _, name, arguments, _ = MEMBERS[member]
    return TIMMBackbone(name, **{**arguments, **kwargs}).eval()


def images(member: str) -> Tensor:
    side = MEMBERS[member][4]
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(0))


def features(model: nn.Module, member: str) -> Tensor:
    """The class token as transformers gives it; of timm's DINOv3 too, which averages the patches by default."""
    with torch.no_grad():
        if isinstance(model, TIMMBackbone):
            found = model.timm_model.forward_features(images(member))
            return model.timm_model.forward_head(found, pre_logits=True) if found.ndim == 4 else found[:, 0]
        return model(images(member)).pooler_output


@pytest.mark.parametrize('written_by', ['save_pretrained', 'torch.save'])
@pytest.mark.parametrize('member', MEMBERS)
def test_files_of_transformers(tmp_path, member, written_by):
    theirs = of_transformers(member)
    if written_by == 'save_pretrained':
        theirs.save_pretrained(tmp_path)
    else:
        torch.save(theirs.state_dict(), tmp_path / 'model.pth')
    ours = of_timm(member)
    load_backbone(ours, tmp_path if written_by == 'save_pretrained' else tmp_path / 'model.pth', heads=HEADS)
    torch.testing.assert_close(features(ours, member), features(theirs, member), atol=1e-5, rtol=1e-5)


def official(member: str) -> dict[str, Tensor]:
    """Random tensors under the names of facebookresearch/dinov2 and dinov3, as their hub's files have them."""
    torch.manual_seed(1)
    hidden = 32 if member == 'v3 gated' else 64 if member == 'v2 gated' else 4 * WIDTH
    shapes = {'cls_token': (1, 1, WIDTH), 'mask_token': (1, WIDTH)}
    if member.startswith('v2'):
        shapes['pos_embed'] = (1, 10, WIDTH)
        shapes |= {'register_tokens': (1, 4, WIDTH)} if 'registers' in member else {}
    else:
        shapes |= {'storage_tokens': (1, 4, WIDTH), 'rope_embed.periods': (3,)}
    patch = 14 if member.startswith('v2') else 16
    shapes |= {'patch_embed.proj.weight': (WIDTH, 3, patch, patch), 'patch_embed.proj.bias': (WIDTH,)}
    mlp = {'fc1': (hidden, WIDTH), 'fc2': (WIDTH, hidden)}
    if member == 'v2 gated':
        mlp = {'w12': (2 * hidden, WIDTH), 'w3': (WIDTH, hidden)}
    if member == 'v3 gated':
        mlp = {'w1': (hidden, WIDTH), 'w2': (hidden, WIDTH), 'w3': (WIDTH, hidden)}
    layers = {'attn.qkv': (3 * WIDTH, WIDTH), 'attn.proj': (WIDTH, WIDTH), **{f'mlp.{k}': v for k, v in mlp.items()}}
    for i in range(DEPTH):
        for layer, shape in layers.items():
            shapes |= {f'blocks.{i}.{layer}.weight': shape, f'blocks.{i}.{layer}.bias': shape[:1]}
        shapes |= {f'blocks.{i}.ls{j}.gamma': (WIDTH,) for j in (1, 2)}
        for norm in ('norm1', 'norm2'):
            shapes |= {f'blocks.{i}.{norm}.{leaf}': (WIDTH,) for leaf in ('weight', 'bias')}
        if member.startswith('v3'):
            shapes[f'blocks.{i}.attn.qkv.bias_mask'] = (3 * WIDTH,)
    shapes |= {f'norm.{leaf}': (WIDTH,) for leaf in ('weight', 'bias')}
    tensors = {key: 0.3 * torch.randn(shape) for key, shape in shapes.items()}
    for key in tensors:
        if key.endswith('bias_mask'):
            tensors[key] = torch.ones(3, WIDTH).index_fill(0, torch.tensor([1]), 0).flatten()
    return tensors


@pytest.mark.parametrize('member', [m for m in MEMBERS if 'convnext' not in m])
def test_official_files_as_timm_translates_them(tmp_path, member, capsys):
    torch.save(official(member), tmp_path / 'official.pth')
    ours, theirs = of_timm(member), of_timm(member)
    module = vision_transformer if member.startswith('v2') else eva
    translated = module.checkpoint_filter_fn(official(member), theirs.timm_model)
    capsys.readouterr()
    theirs.timm_model.load_state_dict(translated)
    load_backbone(ours, tmp_path / 'official.pth', heads=HEADS)
    assert capsys.readouterr().out == ''
    for key, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], tensor), key
    assert not read(tmp_path / 'official.pth').unrecognised


def test_official_convnext_as_timm_translates_it(tmp_path):
    ours, theirs = of_timm('v3 convnext'), perturbed(of_timm('v3 convnext'))
    names = ((r'stem', 'downsample_layers.0'), (r'stages\.(\d)\.downsample', r'downsample_layers.\1'))
    names += ((r'\.blocks', ''), ('conv_dw', 'dwconv'), (r'mlp\.fc', 'pwconv'), (r'head\.norm', 'norm'))
    tensors = {}
    for key, tensor in theirs.timm_model.state_dict().items():
        for old, new in names:
            key = re.sub(old, new, key)
        tensors[key] = tensor
    tensors |= {f'norms.3.{leaf}': tensors[f'norm.{leaf}'] for leaf in ('weight', 'bias')}
    translated = convnext.checkpoint_filter_fn(dict(tensors), theirs.timm_model)
    if 'norms.3.weight' in translated:
        pytest.skip('this timm does not know the files of DINOv3')
    assert translated.keys() == theirs.timm_model.state_dict().keys()
    torch.save(tensors, tmp_path / 'official.pth')
    assert 'checkpoint_filter_fn' in str(load_backbone(ours, tmp_path / 'official.pth'))
    for key, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], tensor), key


def test_blocks_in_chunks_and_the_teacher_of_a_training(tmp_path):
    whole = official('v2')
    chunked = {re.sub(r'^blocks\.(\d)', r'blocks.\1.\1', key): t for key, t in whole.items()}
    state = {f'backbone.{key}': t for key, t in chunked.items()} | {'dino_head.mlp.0.weight': torch.zeros(2, 2)}
    torch.save({'teacher': state}, tmp_path / 'teacher_checkpoint.pth')
    torch.save(whole, tmp_path / 'official.pth')
    a, b = of_timm('v2'), of_timm('v2')
    load_backbone(a, tmp_path / 'teacher_checkpoint.pth')
    load_backbone(b, tmp_path / 'official.pth')
    assert all(torch.equal(t, b.state_dict()[key]) for key, t in a.state_dict().items())


def mocovit(**kwargs) -> MoCoViT:
    arch = dict(embed_dims=WIDTH, num_layers=DEPTH, num_heads=HEADS, feedforward_channels=4 * WIDTH)
    return MoCoViT(**{**dict(arch=arch, img_size=42, patch_size=14), **kwargs}).eval()


def test_mocovit_holds_dinov2_without_registers(tmp_path):
    """LayerScale is multiplied into the layers before it: a x W + a x b = a (x W + b)."""
    theirs, ours = of_transformers('v2'), mocovit()
    theirs.save_pretrained(tmp_path)
    assert 'LayerScale multiplied into' in str(load_backbone(ours, tmp_path))
    with torch.no_grad():
        found = ours(images('v2'))[0]
    torch.testing.assert_close(found, features(theirs, 'v2'), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('member', ['v2 registers', 'v2 gated', 'v3'])
def test_what_mocovit_cannot_hold_is_refused_whole(tmp_path, member):
    of_transformers(member).save_pretrained(tmp_path)
    ours = mocovit()
    before = {key: tensor.clone() for key, tensor in ours.state_dict().items()}
    with pytest.raises(ValueError, match='(?s)nothing was loaded.*(TIMMBackbone|wrong shape)|the activation swish'):
        load_backbone(ours, tmp_path)
    assert all(torch.equal(tensor, before[key]) for key, tensor in ours.state_dict().items())


@pytest.mark.parametrize('member', ['v2', 'v2 registers'])
def test_positions_are_resized_as_timm_does(tmp_path, member):
    """From a grid of 3 x 3 to one of 5 x 5; a class token beside registers has no position of its own in timm."""
    torch.save(official(member), tmp_path / 'official.pth')
    ours, theirs = of_timm(member, img_size=70), of_timm(member, img_size=70)
    translated = vision_transformer.checkpoint_filter_fn(official(member), theirs.timm_model)
    theirs.timm_model.load_state_dict(translated)
    assert 'from 3 x 3 to 5 x 5 patches' in str(load_backbone(ours, tmp_path / 'official.pth'))
    torch.testing.assert_close(ours.timm_model.pos_embed, theirs.timm_model.pos_embed)


def test_zero_biases_need_no_place_and_others_do(tmp_path):
    """Timm builds DINOv3 with and without biases; those of the distilled models are zero."""
    weights = of_timm('v3').timm_model.state_dict()
    without = TIMMBackbone('vit_small_patch16_dinov3', **MEMBERS['v3'][3])
    for value in (0.0, 0.1):
        tensors = {
            key: t.fill_(value) if 'q_bias' in key else t.zero_() if 'v_bias' in key else t
            for key, t in weights.items()
        }
        torch.save(tensors, tmp_path / 'weights.pth')
        if not value:
            load_backbone(without, tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match=r'(?s)unexpected \(4\).*q_bias'):
        load_backbone(without, tmp_path / 'weights.pth')


@pytest.mark.parametrize('member', ['v2', 'v3'])
def test_heads_of_the_published_sizes_are_known(tmp_path, member):
    """DINO's small ones have 6 heads, MoCo v3's 12, with the same shapes."""
    name = {'v2': 'vit_small_patch14_dinov2', 'v3': 'vit_small_patch16_dinov3'}[member]
    torch.save(timm.create_model(name, num_classes=0).state_dict(), tmp_path / 'weights.pth')
    assert read(tmp_path / 'weights.pth').arch['num_heads'] == 6
    if member == 'v2':
        with pytest.raises(ValueError, match='trained with 6 attention heads, MoCoViT has 12'):
            load_backbone(MoCoViT('small', img_size=518, patch_size=14), tmp_path / 'weights.pth')


@pytest.fixture
def timms_cache(tmp_path, monkeypatch):
    """A cache of the hub with one file, as huggingface_hub lays it out."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_CACHE', str(tmp_path))
    repo = tmp_path / 'models--timm--vit_small_patch14_dinov2.lvd142m'
    snapshot = repo / 'snapshots' / ('a' * 40)
    snapshot.mkdir(parents=True)
    (repo / 'refs').mkdir()
    (repo / 'refs' / 'main').write_text('a' * 40)
    return snapshot


def test_a_name_of_timm_is_its_file_in_the_cache(timms_cache):
    from mocox.checkpoint.timm_pretrained import cached_file

    with pytest.raises(FileNotFoundError, match='(?s)timm:vit_small.*downloads nothing.*timm.create_model'):
        cached_file('timm:vit_small_patch14_dinov2.lvd142m')
    (timms_cache / 'model.safetensors').write_bytes(b'')
    for name in ('timm:vit_small_patch14_dinov2.lvd142m', 'timm:vit_small_patch14_dinov2'):
        assert cached_file(name) == timms_cache / 'model.safetensors'


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('timm:vit_smal_patch14_dinov2', 'no such model; did you mean vit_small_patch14_dinov2'),
        ('timm:resnet18.of_mine', 'no weights of this name'),
    ],
)
def test_names_that_timm_does_not_have(name, message):
    with pytest.raises(ValueError, match=message):
        read(name)
