"""Mask R-CNN with a feature pyramid on a ResNet-50 on COCO, 2x schedule; needs mmdetection.

Source: arXiv 1911.05722, section 4.2.2; the box head of mmselfsup (four convolutions with BatchNorm).
Published: box AP 40.8, mask AP 36.9 for MoCo v1 (paper, [M]); mmselfsup has 40.2 and 36.1 for MoCo v2; not re-run here.
Hardware: one node, 8 GPUs x 2 images.
Launch: tools/dist_train.sh configs/benchmarks/detection/mask-rcnn_resnet50-fpn_coco.py 8 --data-root DIR
    --pretrained CHECKPOINT
"""

_base_ = [
    '../../_base_/models/mmdet_mask_rcnn_fpn.py',
    '../../_base_/datasets/mmdet_coco.py',
    '../../_base_/schedules/mmdet_sgd.py',
    '../../_base_/mmdet_runtime.py',
]
train_cfg = dict(max_iters=180000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, end=1000),
    dict(type='MultiStepLR', milestones=[120000, 160000], gamma=0.1, by_epoch=False),
]
