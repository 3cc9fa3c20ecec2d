"""Weights for images of other channels, as timm adapts them, and back."""

import pytest
import timm
import torch

from mocox.checkpoint import load_backbone
from mocox.checkpoint.writing import convert
from mocox.models.backbones import MoCoViT

ARCH = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)
TIMM = dict(img_size=16, patch_size=4, embed_dim=16, depth=1, num_heads=2, mlp_ratio=2, num_classes=0)


def saved(path, channels: int) -> MoCoViT:
    model = MoCoViT(ARCH, img_size=16, patch_size=4, in_channels=channels)
    torch.save({'state_dict': {f'backbone.{key}': value for key, value in model.state_dict().items()}}, path)
    return model


@pytest.mark.parametrize('channels', [1, 2, 4, 13])
def test_from_rgb_as_timm_does(tmp_path, channels):
    """The oracle is timm's own loading of the exported file."""
    saved(tmp_path / 'rgb.pth', 3)
    model = MoCoViT(ARCH, img_size=16, patch_size=4, in_channels=channels)
    report = load_backbone(model, tmp_path / 'rgb.pth', heads=2)
    assert 'weights for 3 channels of the image' in str(report)
    convert(tmp_path / 'rgb.pth', tmp_path / 'timm.safetensors', 'timm', heads=2)
    overlay = dict(file=str(tmp_path / 'timm.safetensors'), num_classes=0, custom_load=False)  # older timm: of .npz
    settings = dict(pretrained=True, pretrained_cfg_overlay=overlay)
    oracle = timm.create_model('vit_tiny_patch16_224', in_chans=channels, **TIMM, **settings)
    expected = oracle.state_dict()['patch_embed.proj.weight']
    torch.testing.assert_close(model.state_dict()['patch_embed.proj.weight'], expected)


@pytest.mark.parametrize('channels', [1, 6])
def test_there_and_back(tmp_path, channels):
    """An image of equal channels gives the same features at each stop."""
    rgb = saved(tmp_path / 'rgb.pth', 3).eval()
    many = MoCoViT(ARCH, img_size=16, patch_size=4, in_channels=channels).eval()
    load_backbone(many, tmp_path / 'rgb.pth', heads=2)
    torch.save({'state_dict': {f'backbone.{k}': v for k, v in many.state_dict().items()}}, tmp_path / 'many.pth')
    back = MoCoViT(ARCH, img_size=16, patch_size=4).eval()
    load_backbone(back, tmp_path / 'many.pth', heads=2)
    gray = torch.randn(2, 1, 16, 16)
    outputs = [model(gray.repeat(1, count, 1, 1))[0] for model, count in ((rgb, 3), (many, channels), (back, 3))]
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(outputs[2], outputs[0], atol=1e-5, rtol=1e-5)


def test_neither_gray_nor_colour_is_refused(tmp_path):
    saved(tmp_path / '13.pth', 13)
    with pytest.raises(ValueError, match=r'wrong shape.*patch_embed.proj.weight \(16, 13, 4, 4\)'):
        load_backbone(MoCoViT(ARCH, img_size=16, patch_size=4, in_channels=4), tmp_path / '13.pth', heads=2)


@pytest.mark.parametrize(
    ('target', 'words'),
    [('timm', 'in_chans=13'), ('openmmlab', 'in_channels=13'), ('torchvision', 'Conv2d(13, 16, 4, 4)')],
)
def test_the_printed_line_has_the_channels(tmp_path, target, words):
    saved(tmp_path / '13.pth', 13)
    assert words in convert(tmp_path / '13.pth', tmp_path / 'out.pth', target, heads=2)[0]
