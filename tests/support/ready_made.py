"""A tiny member of every kind of backbone that other libraries bring."""

import torch
from torch import nn

from tests.test_checkpoint.conftest import perturbed

_SMALL = dict(embed_dim=16, depth=2, num_heads=2)
_SWIN = dict(img_size=64, drop_path_rate=0.0, embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
# Name, arguments, width of the features, side of the images.
TIMM_MODELS = {
    'vit': ('vit_tiny_patch16_224', dict(_SMALL, img_size=32), 16, 32),
    'deit': ('deit_tiny_patch16_224', dict(_SMALL, img_size=32, drop_path_rate=0.0), 16, 32),
    'two class tokens': ('deit_tiny_distilled_patch16_224', dict(_SMALL, img_size=32), 16, 32),
    'mean of patches': ('vit_base_patch16_siglip_gap_224', dict(_SMALL, img_size=32, mlp_ratio=2), 16, 32),
    'DINOv2': ('vit_small_patch14_reg4_dinov2', dict(_SMALL, img_size=28, dynamic_img_size=True), 16, 42),
    'DINOv3': ('vit_small_patch16_dinov3', dict(_SMALL, img_size=32), 16, 48),
    'rotary': ('eva02_tiny_patch14_224', dict(_SMALL, img_size=28), 16, 28),
    'qk norm': ('vit_tiny_patch16_224', dict(_SMALL, img_size=32, qk_norm=True, init_values=0.1), 16, 32),
    'swin': ('swin_tiny_patch4_window7_224', _SWIN, 64, 64),
    'convnext': ('convnext_atto', dict(depths=(1, 1, 1, 1), dims=(8, 8, 8, 16)), 16, 32),
    'efficientnet': ('efficientnet_b0', {}, 1280, 32),
    'mobilenet': ('mobilenetv4_conv_small_050', {}, 1280, 32),
    'resnet': ('resnet18', {}, 512, 32),
    'hybrid': ('vit_tiny_r_s16_p8_224', dict(_SMALL, img_size=32), 16, 32),
}

_VIT = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32)
_STAGES = dict(hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 2, 1])
# Settings of the config, side of the images: not always that of the config.
TRANSFORMERS_MODELS = {
    'ViT': (dict(_VIT, patch_size=16, layer_norm_eps=1e-6), 48),
    'Dinov2': (dict(_VIT, patch_size=14, image_size=28), 42),
    'Dinov2WithRegisters': (dict(_VIT, patch_size=14, image_size=28), 42),
    'DINOv3ViT': (dict(_VIT, patch_size=16, num_register_tokens=4), 48),
    'Swin': (dict(embed_dim=8, depths=[1, 1], num_heads=[1, 1], image_size=32, window_size=4), 32),
    'ConvNext': (_STAGES, 32),
    'DINOv3ConvNext': (_STAGES, 64),
}


def saved(folder, member: str) -> nn.Module:
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f'{member}Config')(**TRANSFORMERS_MODELS[member][0])
    model = perturbed(getattr(transformers, f'{member}Model')(config))
    model.save_pretrained(folder)
    return model
