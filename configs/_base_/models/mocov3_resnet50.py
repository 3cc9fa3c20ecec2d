"""MoCo v3 for ResNet-50 as in arXiv 2104.02057, appendix A, and the official code.

It differs from the transformers: temperature 1, a projector of two layers, and no BatchNorm after the predictor.
"""

model = dict(
    type='MoCoV3',
    base_momentum=0.99,
    backbone=dict(
        type='mmpretrain.ResNet',
        depth=50,
        zero_init_residual=True,
        norm_cfg=dict(type='mocox.SyncBN'),
        norm_eval=False,
    ),
    neck=dict(
        type='NonLinearNeck',
        num_layers=2,
        in_channels=2048,
        hid_channels=4096,
        out_channels=256,
        with_bias=False,
        with_last_bn=True,
        with_last_bn_affine=False,
        with_last_bias=False,
        with_avg_pool=True,
        norm_cfg=dict(type='mocox.SyncBN'),
    ),
    head=dict(
        type='ContrastiveHead',
        temperature=1.0,
        loss=dict(type='InfoNCELoss'),
        predictor=dict(
            type='NonLinearNeck',
            num_layers=2,
            in_channels=256,
            hid_channels=4096,
            out_channels=256,
            with_bias=False,
            with_last_bn=False,
            with_last_bias=False,
            with_avg_pool=False,
            norm_cfg=dict(type='mocox.SyncBN'),
        ),
    ),
)
custom_hooks = [dict(type='MomentumUpdateHook')]
