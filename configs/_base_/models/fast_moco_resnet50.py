"""Fast-MoCo for ResNet-50 (arXiv 2207.08220): pairs of the 2 x 2 patches of a view are the queries.

The heads have SimSiam's shapes: a projector of three layers with a BatchNorm after each, a predictor with a bottleneck.
"""

model = dict(
    type='FastMoCo',
    num_splits=2,
    num_combined=2,
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
        num_layers=3,
        in_channels=2048,
        hid_channels=2048,
        out_channels=2048,
        with_bias=True,
        with_last_bn=True,
        with_last_bn_affine=True,
        with_last_bias=True,
        with_avg_pool=True,
        norm_cfg=dict(type='mocox.SyncBN'),
        init_cfg=dict(type='Uniform', layer='_BatchNorm', a=0, b=1),  # the official code draws the scales from (0, 1)
    ),
    head=dict(
        type='ContrastiveHead',
        temperature=1.0,
        loss=dict(type='InfoNCELoss'),
        predictor=dict(
            type='NonLinearNeck',
            num_layers=2,
            in_channels=2048,
            hid_channels=512,
            out_channels=2048,
            with_bias=True,
            with_last_bn=False,
            with_last_bias=True,
            with_avg_pool=False,
            norm_cfg=dict(type='mocox.SyncBN'),
            init_cfg=dict(type='Uniform', layer='_BatchNorm', a=0, b=1),
        ),
    ),
)
custom_hooks = [dict(type='MomentumUpdateHook', schedule='constant')]
