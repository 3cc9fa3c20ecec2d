"""What MoCo v1 (arXiv 1911.05722) and v2 (arXiv 2003.04297) share for ResNet-50.

A leaf adds the projector, ``neck``, and ``head.temperature``, in which v1 and v2 differ.

The published BatchNorm normalises the 32 images of a GPU. ``SplitBN`` normalises groups of 32 images: with 32 on each
GPU it is exactly that, and with more it keeps the statistics of the published layout, on one GPU too.
"""

model = dict(
    type='MoCo',
    queue_len=65536,
    feat_dim=128,
    base_momentum=0.999,
    backbone=dict(
        type='mmpretrain.ResNet',
        depth=50,
        zero_init_residual=False,
        norm_cfg=dict(type='mocox.SplitBN', group_size=32),
        norm_eval=False,
    ),
    head=dict(type='ContrastiveHead', loss=dict(type='InfoNCELoss')),
)
custom_hooks = [dict(type='MomentumUpdateHook', schedule='constant')]
