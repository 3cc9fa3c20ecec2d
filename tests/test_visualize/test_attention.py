"""Attention maps against the attention that timm and mmpretrain compute themselves."""

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from mocox.models import MoCoViT
from mocox.registry import MODELS
from mocox.visualize.attention import attention_maps, overlay

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)


def attention_of_timm(model: VisionTransformer, images: torch.Tensor) -> torch.Tensor:
    """What the softmax of the last block gives, caught where timm's slow path drops out attention."""
    attention = model.blocks[-1].attn
    attention.fused_attn = False
    caught = []
    handle = attention.attn_drop.register_forward_hook(lambda module, inputs, output: caught.append(output))
    model.eval()(images)
    handle.remove()
    attention.fused_attn = True
    return caught[0].detach()  # (B, heads, 1 + patches, 1 + patches)


def test_it_is_what_the_last_block_attends_to():
    torch.manual_seed(0)
    backbone = MoCoViT(ARCH, img_size=32, patch_size=8)
    images = torch.randn(3, 3, 24, 32)  # another shape than it was built for
    expected = attention_of_timm(backbone, images)[:, :, 0, 1:].reshape(3, 2, 3, 4)
    backbone.train()
    torch.testing.assert_close(attention_maps(backbone, images), expected)
    assert backbone.training  # as it was
    assert expected.std() > 1e-3


def test_normalised_queries_and_keys_are_read_as_such():
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=0, qk_norm=True
    )
    torch.nn.init.normal_(model.blocks[-1].attn.q_norm.weight, std=3)
    images = torch.randn(2, 3, 16, 16)
    expected = attention_of_timm(model, images)[:, :, 0, 1:].reshape(2, 2, 4, 4)
    torch.testing.assert_close(attention_maps(model, images), expected)


def test_other_libraries_transformers_are_read_too():
    arch = dict(embed_dims=16, num_layers=2, num_heads=4, feedforward_channels=32)
    backbone = MODELS.build(dict(type='mmpretrain.VisionTransformer', arch=arch, img_size=32, patch_size=8))
    maps = attention_maps(backbone, torch.randn(2, 3, 32, 32))
    assert maps.shape == (2, 4, 4, 4)
    assert (maps.sum(dim=(2, 3)) < 1).all() and (maps > 0).all()


@pytest.mark.parametrize(
    ('config', 'words'),
    [
        (dict(type='mmpretrain.ResNet', depth=18), 'ResNet has no attention'),
        (dict(type='mmpretrain.SwinTransformer', arch='tiny', pad_small_map=True), 'no class token'),
    ],
)
def test_what_has_no_such_attention_is_refused_by_name(config, words):
    with pytest.raises(ValueError, match=words):
        attention_maps(MODELS.build(config), torch.randn(1, 3, 64, 64))


def test_an_overlay_is_bright_where_attention_is():
    image = np.full((32, 32, 3), 100, np.uint8)
    attention = torch.zeros(4, 4)
    attention[0, 3] = 0.2
    lit = overlay(image, attention)
    assert lit.shape == image.shape and lit.dtype == np.uint8
    assert lit[:8, 24:].mean() > lit[16:, :16].mean() + 50
