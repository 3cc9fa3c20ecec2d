"""Mask R-CNN with a simple feature pyramid on MoCo v3 ViT-B/16 on COCO, 100 epochs; needs mmdetection.

Source: arXiv 2203.16527 for the pyramid, with attention over the whole image in all blocks instead of windows, and
without layer decay; optimizer and schedule are its [M], the multi-scale resizing is that of the ResNet configs.
Published: no number for this recipe; arXiv 2111.11429 has box AP 47.9, mask AP 42.7 for MoCo v3 ViT-B with its own [M].
Hardware: 4 nodes of 8 GPUs x 2 images.
Launch: NNODES=4 NODE_RANK=R MASTER_ADDR=HOST
    tools/dist_train.sh configs/benchmarks/detection/mask-rcnn_vit-base_coco.py 8 --pretrained CHECKPOINT
"""

_base_ = [
    '../../_base_/models/mmdet_mask_rcnn_fpn.py',
    '../../_base_/datasets/mmdet_coco.py',
    '../../_base_/schedules/mmdet_sgd.py',
    '../../_base_/mmdet_runtime.py',
]
model = dict(
    backbone=dict(
        _delete_=True, type='mocox.MoCoViT', arch='base', stop_grad_conv1=False, learn_positions=True,
        drop_path_rate=0.1, out_type='featmap',
    ),
    neck=dict(_delete_=True, type='mocox.SimpleFeaturePyramid', in_channels=768, num_outs=5),
)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={'.pos_embed': dict(decay_mult=0.0)}),
)
auto_scale_lr = dict(base_batch_size=64)
train_cfg = dict(max_iters=184375)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, end=250),
    dict(type='MultiStepLR', milestones=[163889, 177546], gamma=0.1, by_epoch=False),
]
