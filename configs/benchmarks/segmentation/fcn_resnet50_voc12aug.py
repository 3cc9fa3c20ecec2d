"""FCN on PASCAL VOC 2012 (train_aug), 30k iterations; needs mmsegmentation.

Paper: arXiv 1911.05722, appendix (semantic segmentation): lr 0.003, divided by 10 at 70 % and 90 % of the training.
Published: mIoU 72.5 for MoCo v1 (paper, [M]); mmselfsup has 67.55 for MoCo v2 with 20k iterations; not re-run here.
Hardware: one node, 8 GPUs x 2 images.
Launch: tools/dist_train.sh configs/benchmarks/segmentation/fcn_resnet50_voc12aug.py 8 --data-root DIR
    --pretrained CHECKPOINT, where DIR is .../VOCdevkit/VOC2012
"""

_base_ = [
    '../../_base_/models/mmseg_fcn_resnet50.py',
    '../../_base_/datasets/mmseg_voc12aug.py',
    '../../_base_/schedules/mmseg_iters.py',
    '../../_base_/mmseg_runtime.py',
]
model = dict(data_preprocessor=dict(size=(513, 513)), decode_head=dict(num_classes=21))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.003, momentum=0.9, weight_decay=1e-4))
train_cfg = dict(max_iters=30000)
param_scheduler = dict(type='MultiStepLR', milestones=[21000, 27000], gamma=0.1, by_epoch=False)
