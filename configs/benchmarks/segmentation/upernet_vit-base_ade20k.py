"""UPerNet with MoCo v3 ViT-B/16 on ADE20K, 160k iterations; needs mmsegmentation.

Source: the ViT recipe of mmsegmentation for self-supervised backbones (AdamW, lr 1e-4, blocks 4, 6, 8 and 12), without
its layer decay and relative positions.
Published: mIoU 47.3 for MoCo v3 ViT-B in arXiv 2111.06377 [M], with their recipe; not re-run here.
Hardware: one node, 8 GPUs x 2 images.
Launch: tools/dist_train.sh configs/benchmarks/segmentation/upernet_vit-base_ade20k.py 8 --data-root DIR
    --pretrained CHECKPOINT
"""

_base_ = [
    '../../_base_/models/mmseg_upernet.py',
    '../../_base_/datasets/mmseg_ade20k.py',
    '../../_base_/schedules/mmseg_iters.py',
    '../../_base_/mmseg_runtime.py',
]
model = dict(
    backbone=dict(
        type='mocox.MoCoViT', arch='base', img_size=512, stop_grad_conv1=False, learn_positions=True,
        drop_path_rate=0.1, out_type='featmap', out_indices=[3, 5, 7, 11],
    ),
    neck=dict(type='Feature2Pyramid', embed_dim=768, rescales=[4, 2, 1, 0.5], norm_cfg=dict(type='mocox.SyncBN')),
    decode_head=dict(in_channels=[768, 768, 768, 768]),
    auxiliary_head=dict(in_channels=768),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={'.pos_embed': dict(decay_mult=0.0)}),
)
train_cfg = dict(max_iters=160000)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, end=1500),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=1500, by_epoch=False),
]
