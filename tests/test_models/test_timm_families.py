"""Every family of timm gives one vector per image, of the width that timm states."""

import pytest
import torch
from timm.models import is_model_in_modules, list_models, list_modules

from mocox.models import TIMMBackbone

# A small member of each module of timm, with fewer blocks where it has an argument for that.
FAMILIES = {
    'beit': ('beit_base_patch16_224', dict(depth=1)),
    'byoanet': ('botnet26t_256', {}),
    'byobnet': ('gernet_s', {}),
    'cait': ('cait_xxs24_224', dict(depth=1)),
    'coat': ('coat_lite_tiny', dict(serial_depths=(1, 1, 1, 1), parallel_depth=0)),
    'convit': ('convit_tiny', dict(depth=1)),
    'convmixer': ('convmixer_1024_20_ks9_p14', {}),
    'convnext': ('convnext_atto', dict(depths=(1, 1, 1, 1))),
    'cpubone': ('cpubone_nano', {}),
    'crossvit': ('crossvit_tiny_240', dict(depth=((1, 1, 0), (1, 1, 0), (1, 1, 0)))),
    'csatv2': ('csatv2_21m', {}),
    'cspnet': ('cs3darknet_focus_s', {}),
    'cspnext': ('cspnext_tiny', {}),
    'davit': ('davit_tiny', dict(depths=(1, 1, 1, 1))),
    'deepseek_vit': ('deepseek_vit_412m', dict(depth=1)),
    'deit': ('deit_tiny_distilled_patch16_224', dict(depth=1)),
    'densenet': ('densenet121', dict(block_config=(1, 1, 1, 1))),
    'dla': ('dla34', {}),
    'dpn': ('dpn48b', {}),
    'edgenext': ('edgenext_xx_small', dict(depths=(1, 1, 1, 1))),
    'efficientformer': ('efficientformer_l1', {}),
    'efficientformer_v2': ('efficientformerv2_s0', dict(depths=(1, 1, 1, 1))),
    'efficientnet': ('mobilenet_edgetpu_v2_xs', {}),
    'efficientvim': ('efficientvim_m1', {}),
    'efficientvit_mit': ('efficientvit_b0', {}),
    'efficientvit_msra': ('efficientvit_m0', dict(depth=[1, 1, 0])),
    'eva': ('eva02_tiny_patch14_224', dict(depth=1)),
    'fasternet': ('fasternet_t0', dict(depths=(1, 1, 1, 1))),
    'fastvit': ('fastvit_t8', dict(layers=(1, 1, 1, 1))),
    'focalnet': ('focalnet_tiny_lrf', {}),
    'gcvit': ('gcvit_xxtiny', {}),
    'gemma4_vit': ('gemma4_vit_167m', dict(depth=1)),
    'ghostnet': ('ghostnet_050', {}),
    'hardcorenas': ('hardcorenas_a', {}),
    'hgnet': ('hgnet_tiny', {}),
    'hiera': ('hiera_tiny_224', {}),
    'hieradet_sam2': ('sam2_hiera_tiny', dict(stages=(1, 1, 1, 1))),
    'hrnet': ('hrnet_w18_small', {}),
    'iformer': ('iformer_t', {}),
    'inception_next': ('inception_next_atto', dict(depths=[1, 1, 1])),
    'inception_resnet_v2': ('inception_resnet_v2', {}),
    'inception_v3': ('inception_v3', {}),
    'inception_v4': ('inception_v4', {}),
    'lcnetv2': ('lcnetv2_small', dict(depths=(1, 1, 1, 1))),
    'levit': ('levit_384_s8', dict(depth=[1, 1, 0])),
    'lowformer': ('lowformer_b0', {}),
    'mambaout': ('mambaout_femto', dict(depths=[1, 1, 1])),
    'maxxvit': ('coatnet_pico_rw_224', dict(depths=(1, 1, 1, 1))),
    'metaformer': ('caformer_s18', {}),
    'mlp_mixer': ('gmlp_ti16_224', {}),
    'mobilenetv3': ('mobilenetv3_small_050', {}),
    'mobilenetv5': ('mobilenetv5_300m', {}),
    'mobilevit': ('mobilevit_xxs', {}),
    'mvitv2': ('mvitv2_tiny', {}),
    'naflexvit': ('naflexvit_base_patch16_siglip', dict(depth=1)),
    'nasnet': ('nasnetalarge', {}),
    'nest': ('nest_tiny', {}),
    'nextvit': ('nextvit_small', {}),
    'nfnet': ('nf_seresnet26', dict(depths=[1, 1, 1])),
    'pit': ('pit_xs_224', {}),
    'pnasnet': ('pnasnet5large', {}),
    'pvt_v2': ('pvt_v2_b0', dict(depths=(1, 1, 1, 1))),
    'qwen3_vit': ('qwen3_vit_88m', dict(depth=1)),
    'rdnet': ('rdnet_tiny', {}),
    'regnet': ('regnetx_004_tv', {}),
    'repghost': ('repghostnet_050', {}),
    'repvit': ('repvit_m0_9', dict(depth=(1, 1, 1, 1))),
    'res2net': ('res2net50_26w_4s', dict(layers=(1, 1, 1, 1))),
    'resnest': ('resnest50d_1s4x24d', dict(layers=(1, 1, 1, 1))),
    'resnet': ('resnet18', {}),
    'resnetv2': ('resnetv2_18', {}),
    'rexnet': ('rexnet_200', {}),
    'selecsls': ('selecsls42', {}),
    'senet': ('legacy_senet154', dict(layers=(1, 1, 1, 1))),
    'sequencer': ('sequencer2d_s', dict(layers=(1, 1, 1, 1), img_size=64)),
    'shvit': ('shvit_s1', dict(depth=[1, 1, 0])),
    'sknet': ('skresnet18', {}),
    'starnet': ('starnet_s1', dict(depths=(1, 1, 1, 1))),
    'swiftformer': ('swiftformer_xs', dict(layers=(1, 1, 1, 1))),
    'swin_transformer': ('swin_s3_tiny_224', dict(depths=(1, 1, 1, 1))),
    'swin_transformer_v2': ('swinv2_tiny_window8_256', dict(depths=[1, 1, 1])),
    'swin_transformer_v2_cr': ('swinv2_cr_tiny_224', dict(depths=(1, 1, 1, 1))),
    'tiny_vit': ('tiny_vit_5m_224', dict(depths=(1, 1, 1, 1))),
    'tnt': ('tnt_s_legacy_patch16_224', dict(depth=1)),
    'tresnet': ('tresnet_l', dict(layers=(1, 1, 1, 1))),
    'twins': ('twins_pcpvt_small', dict(depths=(1, 1, 1, 1))),
    'vgg': ('vgg11', {}),
    'visformer': ('visformer_tiny', dict(depth=1)),
    'vision_transformer': ('vit_tiny_patch16_224', dict(depth=1)),
    'vision_transformer_hybrid': ('vit_tiny_r_s16_p8_224', dict(depth=1)),
    'vision_transformer_relpos': ('vit_relpos_small_patch16_224', dict(depth=1)),
    'vision_transformer_sam': ('samvit_base_patch16_224', dict(depth=1)),
    'vitamin': ('vitamin_small_224', dict(depth=1)),
    'volo': ('volo_d1_224', {}),
    'vovnet': ('ese_vovnet19b_slim', {}),
    'xception': ('legacy_xception', {}),
    'xception_aligned': ('xception41', {}),
    'xcit': ('xcit_nano_12_p8_224', dict(depth=1)),
}


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('family', FAMILIES)
def test_one_vector_for_each_image(family):
    """On the meta device: shapes without numbers."""
    name, arguments = FAMILIES[family]
    assert is_model_in_modules(name, [family])
    with torch.device('meta'), torch.no_grad():
        backbone = TIMMBackbone(name, **arguments).eval()
        model = backbone.timm_model
        (features,) = backbone(torch.empty(2, *model.pretrained_cfg['input_size']))
    assert features.shape == (2, model.head_hidden_size)
    assert set(backbone.normalisation) == {'mean', 'std'}


def test_no_family_is_left_out():
    """Those of the newest timm; of an older one some are not there yet."""
    assert {module for module in list_modules() if list_models(module=module)} <= set(FAMILIES)
