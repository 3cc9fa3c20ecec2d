"""Faster R-CNN with a C4 backbone on PASCAL VOC 07+12, 24k iterations; needs mmdetection.

Source: detection configs of the official MoCo code (arXiv 1911.05722, section 4.2.1).
Published: AP50 / AP / AP75 81.5 / 55.9 / 62.6 (MoCo v1), 82.4 / 57.0 / 63.6 (v2, 200 epochs), 82.5 / 57.4 / 64.0 (v2,
800 epochs), means of 5 runs with detectron2; not re-run here. Its precise BatchNorm in the test is left out.
Hardware: one node, 8 GPUs x 2 images.
Launch: tools/dist_train.sh configs/benchmarks/detection/faster-rcnn_resnet50-c4_voc0712.py 8 --data-root DIR
    --pretrained CHECKPOINT
"""

_base_ = [
    '../../_base_/models/mmdet_c4.py',
    '../../_base_/datasets/mmdet_voc0712.py',
    '../../_base_/schedules/mmdet_sgd.py',
    '../../_base_/mmdet_runtime.py',
]
model = dict(roi_head=dict(bbox_head=dict(num_classes=20)))
train_cfg = dict(max_iters=24000, val_interval=2000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, end=100),
    dict(type='MultiStepLR', milestones=[18000, 22000], gamma=0.1, by_epoch=False),
]
