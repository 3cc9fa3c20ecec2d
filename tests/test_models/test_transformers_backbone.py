"""TransformersBackbone against transformers itself: a folder on disk gives the same features, and trains."""

import sys

import pytest
import torch
import transformers
from torch import nn

from mocox.models import TransformersBackbone
from mocox.models.chunks import has_batch_norm
from mocox.registry import MODELS
from tests.support.gradients import assert_same, gradients
from tests.support.ready_made import TRANSFORMERS_MODELS as MEMBERS
from tests.support.ready_made import saved


def images(member: str, n: int = 4, seed: int = 0) -> torch.Tensor:
    side = MEMBERS[member][1]
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def algorithm(folder, **kwargs) -> nn.Module:
    torch.manual_seed(0)
    neck = dict(type='NonLinearNeck', hid_channels=12, out_channels=8, with_last_bn_affine=False)
    return MODELS.build(
        dict(
            type='MoCoV3',
            backbone=dict(type='TransformersBackbone', folder=str(folder)),
            neck=neck,
            head=dict(type='ContrastiveHead', predictor=dict(neck, in_channels=8), temperature=0.2),
            **kwargs,
        )
    ).double()


@pytest.mark.parametrize('member', MEMBERS)
def test_features_are_transformers_own_and_training_moves_all_weights(tmp_path, member):
    theirs, x = saved(tmp_path, member), images(member)
    ours = TransformersBackbone(str(tmp_path)).eval()
    with torch.no_grad():
        if member == 'ViT':  # its pooled output goes through a layer that no file has
            expected = theirs(x, interpolate_pos_encoding=True).last_hidden_state[:, 0]
        else:
            expected = theirs(x).pooler_output
        torch.testing.assert_close(ours(x)[0], expected)
    results = []
    for settings in (dict(merge_views=False), dict(), dict(chunk_size=3)):
        model = algorithm(tmp_path, **settings)
        assert not has_batch_norm(model.backbone)
        for key, tensor in model.momentum_encoder.backbone.state_dict().items():
            assert torch.equal(tensor, ours.state_dict()[key].double())
        loss = model([images(member).double(), images(member, seed=1).double()], mode='loss')['loss']
        results.append((loss.item(), gradients(model, loss)))
        without = {n for n, p in model.backbone.named_parameters() if p.requires_grad and p.grad is None}
        assert not without
    old = int(transformers.__version__.split('.')[0]) < 5  # interpolates DINOv2's positions in float32
    for loss, grads in results[1:]:
        assert loss == pytest.approx(results[0][0], rel=1e-10)
        assert_same(grads, results[0][1], rtol=1e-6 if old and member == 'Dinov2' else 1e-8)


@pytest.mark.parametrize('member', ['ViT', 'DINOv3ViT'])
def test_compiled_blocks_give_the_same(tmp_path, member):
    saved(tmp_path, member)
    x = [images(member).double(), images(member, seed=1).double()]
    losses = [algorithm(tmp_path, compile=c)(x, mode='loss')['loss'].item() for c in (False, dict(backend='eager'))]
    torch._dynamo.reset()
    assert losses[1] == pytest.approx(losses[0], rel=1e-10)


@pytest.mark.parametrize('member', ['ViT', 'Dinov2', 'DINOv3ViT', 'Swin'])
def test_the_patch_projection_can_be_frozen(tmp_path, member):
    saved(tmp_path, member)
    model = TransformersBackbone(str(tmp_path), stop_grad_conv1=True)
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad and 'mask_token' not in n}
    assert len(frozen) == 2 and all('patch_embeddings' in name for name in frozen)


@pytest.mark.parametrize(
    ('member', 'depths'),
    [
        ('DINOv3ViT', {'model.embeddings.cls_token': 0, 'model.model.layer.0.norm1.weight': 1, 'model.norm.weight': 2}),
        ('Swin', {'model.embeddings.norm.weight': 0, 'model.layernorm.weight': 2}),
        ('ConvNext', {'model.embeddings.layernorm.weight': 0, 'model.layernorm.weight': 5}),
    ],
)
def test_depth_of_layers(tmp_path, member, depths):
    """0 for what sees the image, then the blocks of all stages, the last with the norm behind it; then heads."""
    saved(tmp_path, member)
    model = TransformersBackbone(str(tmp_path))
    last = max(depths.values()) + 2
    known = dict(model.named_parameters())
    for name, depth in depths.items():
        name = name if name in known else name.replace('model.model.', 'model.')  # as transformers 4.56 has it
        assert name in known
        assert model.get_layer_depth(f'backbone.{name}', 'backbone.') == (depth, last)
    assert model.get_layer_depth('neck.fc0.weight', 'backbone.') == (last - 1, last)


def test_constants_of_the_folder(tmp_path):
    saved(tmp_path, 'ViT')
    assert TransformersBackbone(str(tmp_path)).normalisation == {}
    text = '{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2], "rescale_factor": 0.00392156862745098}'
    (tmp_path / 'preprocessor_config.json').write_text(text)
    found = TransformersBackbone(str(tmp_path)).normalisation
    assert found == dict(mean=[127.5, 102.0, 76.5], std=[51.0, 51.0, 51.0])


def test_half_of_the_weights_is_refused(tmp_path):
    model = saved(tmp_path, 'Dinov2')
    state = {k: t for k, t in model.state_dict().items() if 'norm2' not in k}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(ValueError, match='does not hold all weights.*4 missing.*norm2'):
        TransformersBackbone(str(tmp_path))


def test_random_weights_need_no_file(tmp_path):
    saved(tmp_path, 'ViT')
    (tmp_path / 'model.safetensors').unlink()
    assert TransformersBackbone(str(tmp_path), pretrained=False)(images('ViT'))[0].shape == (4, 16)
    with pytest.raises(FileNotFoundError, match='no weights that transformers reads'):
        TransformersBackbone(str(tmp_path))


def test_mistakes(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r'has no config\.json'):
        TransformersBackbone(str(tmp_path))
    saved(tmp_path, 'ConvNext')
    with pytest.raises(ValueError, match='convnext in .* has no setting patch_sise'):
        TransformersBackbone(str(tmp_path), patch_sise=8)
    monkeypatch.setitem(sys.modules, 'transformers', None)
    with pytest.raises(ImportError, match=r'pip install "mocox\[transformers\]"'):
        TransformersBackbone(str(tmp_path))
