"""MoCo v3 for vision transformers, heads as in arXiv 2104.02057, section 5.

A leaf adds ``backbone.arch`` and the width of that backbone, ``neck.in_channels``.
"""

model = dict(
    type='MoCoV3',
    base_momentum=0.99,
    backbone=dict(type='MoCoViT', img_size=224, patch_size=16, stem='patch', stop_grad_conv1=True),
    neck=dict(
        type='NonLinearNeck',
        num_layers=3,
        hid_channels=4096,
        out_channels=256,
        with_bias=False,
        with_last_bn=True,
        with_last_bn_affine=False,
        with_last_bias=False,
        with_avg_pool=False,
        norm_cfg=dict(type='mocox.SyncBN'),
    ),
    head=dict(
        type='ContrastiveHead',
        temperature=0.2,
        loss=dict(type='InfoNCELoss'),
        predictor=dict(
            type='NonLinearNeck',
            num_layers=2,
            in_channels=256,
            hid_channels=4096,
            out_channels=256,
            with_bias=False,
            with_last_bn=True,
            with_last_bn_affine=False,
            with_last_bias=False,
            with_avg_pool=False,
            norm_cfg=dict(type='mocox.SyncBN'),
        ),
    ),
)
custom_hooks = [dict(type='MomentumUpdateHook')]
