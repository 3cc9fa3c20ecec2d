"""Mask R-CNN with a C4 backbone on COCO, 2x schedule; needs mmdetection.

Source: detection configs of the official MoCo code (arXiv 1911.05722, section 4.2.2); warm-up is detectron2's default.
Published: box AP 40.7, mask AP 35.4 for MoCo v1 (paper, [M]); not re-run here.
Hardware: one node, 8 GPUs x 2 images.
Launch: tools/dist_train.sh configs/benchmarks/detection/mask-rcnn_resnet50-c4_coco.py 8 --data-root DIR
    --pretrained CHECKPOINT
"""

_base_ = [
    '../../_base_/models/mmdet_c4.py',
    '../../_base_/datasets/mmdet_coco.py',
    '../../_base_/schedules/mmdet_sgd.py',
    '../../_base_/mmdet_runtime.py',
]
model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(pad_mask=True),
    roi_head=dict(
        mask_head=dict(
            type='FCNMaskHead', num_convs=0, in_channels=2048, conv_out_channels=256, num_classes=80,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
        )
    ),
    train_cfg=dict(rcnn=dict(mask_size=14)),
    test_cfg=dict(rcnn=dict(mask_thr_binary=0.5)),
)
train_cfg = dict(max_iters=180000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, end=1000),
    dict(type='MultiStepLR', milestones=[120000, 160000], gamma=0.1, by_epoch=False),
]
