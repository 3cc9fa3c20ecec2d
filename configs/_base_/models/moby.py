"""MoBY (arXiv 2105.04553): two queues, a predictor, and stochastic depth in the query encoder only.

A leaf adds the backbone, with its drop path rate, and the width of its features, ``neck.in_channels``.
"""

model = dict(
    type='MoBY',
    queue_len=4096,
    feat_dim=256,
    base_momentum=0.99,
    neck=dict(
        type='NonLinearNeck',
        num_layers=2,
        hid_channels=4096,
        out_channels=256,
        with_bias=True,
        with_last_bn=False,
        with_last_bias=True,
        with_avg_pool=True,
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
            with_bias=True,
            with_last_bn=False,
            with_last_bias=True,
            with_avg_pool=False,
            norm_cfg=dict(type='mocox.SyncBN'),
        ),
    ),
)
custom_hooks = [dict(type='MomentumUpdateHook')]
