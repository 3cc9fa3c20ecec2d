"""A linear classifier on a frozen ResNet-50, without BatchNorm before it, as in the official code."""

model = dict(
    type='LinearProbe',
    backbone=dict(type='mmpretrain.ResNet', depth=50, zero_init_residual=False),
    head=dict(
        type='LinearClsHead',
        _scope_='mmpretrain',
        num_classes=1000,
        in_channels=2048,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
        init_cfg=dict(type='Normal', layer='Linear', std=0.01, bias=0.0),
    ),
)
