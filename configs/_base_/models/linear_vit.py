"""A linear classifier on a frozen transformer, without BatchNorm before it, as in the official code.

A leaf adds ``backbone.arch`` and the width of that backbone, ``head.in_channels``.
"""

model = dict(
    type='LinearProbe',
    backbone=dict(type='MoCoViT', img_size=224, patch_size=16, stem='patch'),
    head=dict(
        type='LinearClsHead',
        _scope_='mmpretrain',
        num_classes=1000,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
        init_cfg=dict(type='Normal', layer='Linear', std=0.01, bias=0.0),
    ),
)
