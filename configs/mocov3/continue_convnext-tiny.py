"""MoCo v3, DINOv3's ConvNeXt-T, trained further on your own images, 50 epochs.

Source: no paper's row. A small learning rate with layer-wise decay, heads first, and a slow momentum encoder, as
fine-tuning does.
Published: no number, and none is claimed here. The run says itself whether it is better than what it started from.
Hardware: one GPU, or a CPU with patience.
Launch: python tools/train.py configs/mocov3/continue_convnext-tiny.py --data-root DIR --pretrained FILE, where FILE
    holds a ConvNeXt-T in any layout; without --pretrained it is in timm's cache. Another network: --arch NAME as well.
"""

_base_ = [
    '../_base_/models/mocov3_vit.py',
    '../_base_/datasets/custom.py',
    '../_base_/views/mocov3.py',
    '../_base_/schedules/adamw_continue.py',
    '../_base_/default_runtime.py',
]
model = dict(
    base_momentum=0.996,
    backbone=dict(
        _delete_=True, type='TIMMBackbone', model_name='convnext_tiny',
        init_cfg=dict(type='mocox.Pretrained', checkpoint='timm:convnext_tiny.dinov3_lvd1689m')),
)
train_dataloader = dict(batch_size=64, dataset=dict(crops=dict(scale=(0.2, 1.0))))
custom_hooks = [dict(type='MomentumUpdateHook'), dict(type='FreezeBackboneHook', epochs=2)]
