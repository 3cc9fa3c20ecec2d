"""FCN on Cityscapes (train_fine), 90k iterations; needs mmsegmentation.

Paper: arXiv 1911.05722, appendix (semantic segmentation): lr 0.01, divided by 10 at 70 % and 90 % of the training.
Published: mIoU 75.3 for MoCo v1 (paper, [M]); not re-run here.
Hardware: one node, 8 GPUs x 2 images.
Launch: tools/dist_train.sh configs/benchmarks/segmentation/fcn_resnet50_cityscapes.py 8 --data-root DIR
    --pretrained CHECKPOINT
"""

_base_ = [
    '../../_base_/models/mmseg_fcn_resnet50.py',
    '../../_base_/datasets/mmseg_cityscapes.py',
    '../../_base_/schedules/mmseg_iters.py',
    '../../_base_/mmseg_runtime.py',
]
model = dict(data_preprocessor=dict(size=(769, 769)), decode_head=dict(num_classes=19))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4))
train_cfg = dict(max_iters=90000)
param_scheduler = dict(type='MultiStepLR', milestones=[63000, 81000], gamma=0.1, by_epoch=False)
