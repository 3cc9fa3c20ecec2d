"""A classifier on a transformer, all of it trained, patch projection and positions included; labels smoothed by 0.1.

A leaf adds ``backbone.arch``, ``backbone.drop_path_rate`` and the width of that backbone, ``head.in_channels``.
"""

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='MoCoViT',
        img_size=224,
        patch_size=16,
        stem='patch',
        stop_grad_conv1=False,
        learn_positions=True,
    ),
    head=dict(
        type='LinearClsHead',
        _scope_='mmpretrain',
        num_classes=1000,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
    ),
)
