"""Every algorithm, small: with transformers, ConvNets, a Swin, a queue, groups of BatchNorm, stochastic depth."""

VIT = dict(
    type='MoCoViT', img_size=8, patch_size=4,
    arch=dict(embed_dims=16, num_layers=2, num_heads=4, feedforward_channels=32),
)  # fmt: skip
RESNET = dict(type='mmpretrain.ResNet', depth=18, stem_channels=4, base_channels=4, norm_cfg=dict(type='BN'))
SWIN = dict(
    type='mmpretrain.SwinTransformer', arch=dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2]), img_size=32,
    patch_size=4, window_size=4, out_indices=(1,), drop_path_rate=0.2,
)  # fmt: skip
MLP = dict(type='NonLinearNeck', hid_channels=12, out_channels=8)
BIASED = dict(MLP, with_bias=True, with_last_bias=True, with_last_bn=False)
PREDICTOR = dict(type='ContrastiveHead', temperature=0.2, predictor=dict(MLP, in_channels=8))
BIASED_PREDICTOR = dict(PREDICTOR, predictor=dict(BIASED, in_channels=8))
HEAD = dict(type='ContrastiveHead', temperature=0.2)
QUEUE = dict(queue_len=16, feat_dim=8)
MODELS_BY_NAME = {
    'v3': (8, dict(type='MoCoV3', backbone=VIT, neck=dict(MLP, in_channels=16), head=PREDICTOR)),
    'v3, views apart': (
        8,
        dict(type='MoCoV3', backbone=VIT, neck=dict(MLP, in_channels=16), head=PREDICTOR, merge_views=False),
    ),
    'v3, conv stem, stochastic depth': (
        32,
        dict(
            type='MoCoV3',
            neck=dict(MLP, in_channels=16),
            head=PREDICTOR,
            backbone=dict(VIT, img_size=32, patch_size=16, stem='conv', drop_path_rate=0.3),
        ),
    ),
    'v3, ResNet, channels last': (
        32,
        dict(type='MoCoV3', backbone=RESNET, neck=dict(MLP, in_channels=32), head=PREDICTOR, channels_last=True),
    ),
    'v2': (32, dict(type='MoCo', backbone=RESNET, neck=dict(MLP, in_channels=32), head=HEAD, **QUEUE)),
    'v2, groups': (
        32,
        dict(
            type='MoCo',
            neck=dict(MLP, in_channels=32),
            head=HEAD,
            **QUEUE,
            backbone=dict(RESNET, norm_cfg=dict(type='mocox.SplitBN', group_size=2)),
        ),
    ),
    'v2, symmetric': (
        32,
        dict(type='MoCo', backbone=RESNET, neck=dict(MLP, in_channels=32), head=HEAD, symmetric=True, **QUEUE),
    ),
    'MoBY': (32, dict(type='MoBY', backbone=SWIN, neck=dict(BIASED, in_channels=16), head=BIASED_PREDICTOR, **QUEUE)),
    'Fast-MoCo': (64, dict(type='FastMoCo', backbone=RESNET, neck=dict(MLP, in_channels=32), head=BIASED_PREDICTOR)),
}
