"""A classifier on a ResNet-50, all of it trained; BatchNorm is shared between processes."""

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmpretrain.ResNet', depth=50, norm_cfg=dict(type='mocox.SyncBN'), zero_init_residual=False),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        _scope_='mmpretrain',
        num_classes=1000,
        in_channels=2048,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        init_cfg=dict(type='Normal', layer='Linear', std=0.01, bias=0.0),
    ),
)
