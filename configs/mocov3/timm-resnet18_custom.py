"""MoCo v3 on a backbone by name from timm, here ResNet-18, 300 epochs on your own images.

Source: the ResNet recipe of arXiv 2104.02057 with the temperature 0.2, which suits the few negatives of a batch of
64. Any model of timm works as
``backbone=dict(type='TIMMBackbone', model_name=...)``; this one keeps mmpretrain's class, whose files it has written.
Published: no number, and none is claimed here.
Hardware: one GPU, or a CPU with patience.
Launch: python tools/train.py configs/mocov3/timm-resnet18_custom.py --data-root DIR
"""

_base_ = [
    '../_base_/models/mocov3_resnet50.py',
    '../_base_/datasets/custom.py',
    '../_base_/views/mocov3.py',
    '../_base_/schedules/lars.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(_delete_=True, type='mmpretrain.TIMMBackbone', model_name='resnet18', norm_layer='mocox.SyncBN'),
    neck=dict(in_channels=512),
    head=dict(temperature=0.2),
)
optim_wrapper = dict(optimizer=dict(lr=0.3, weight_decay=1e-6))
train_cfg = dict(max_epochs=300)
train_dataloader = dict(batch_size=64, dataset=dict(crops=dict(scale=(0.2, 1.0))))
