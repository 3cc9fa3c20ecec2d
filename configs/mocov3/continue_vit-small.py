"""MoCo v3, DINOv2's ViT-S/14 with registers, trained further on your own images, 50 epochs.

Source: no paper's row. A small learning rate with layer-wise decay, heads first, and a slow momentum encoder, as
fine-tuning does; the patch projection stays as it was trained (arXiv 2104.02057, section 4.2).
Published: no number, and none is claimed here. The run says itself whether it is better than what it started from.
Hardware: one GPU, or a CPU with patience.
Launch: python tools/train.py configs/mocov3/continue_vit-small.py --data-root DIR --pretrained FILE, where FILE holds
    DINOv2 in any layout; without --pretrained it is in timm's cache. DINOv3: --arch vit_small_patch16_dinov3 as well.
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
        _delete_=True, type='TIMMBackbone', model_name='vit_small_patch14_reg4_dinov2', img_size=224,
        dynamic_img_size=True, stop_grad_conv1=True,
        init_cfg=dict(type='mocox.Pretrained', checkpoint='timm:vit_small_patch14_reg4_dinov2.lvd142m')),
)
train_dataloader = dict(batch_size=64, dataset=dict(crops=dict(scale=(0.2, 1.0))))
custom_hooks = [dict(type='MomentumUpdateHook'), dict(type='FreezeBackboneHook', epochs=2)]
