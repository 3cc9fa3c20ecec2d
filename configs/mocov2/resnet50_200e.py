"""MoCo v2, ResNet-50, 200 epochs on ImageNet-1k.

Paper: arXiv 2003.04297, with the values of the official code.
Published: linear top-1 67.7 (67.5 +- 0.1 over 5 runs; official README); not re-run here.
Hardware: one node, 8 GPUs x 32 images = 256; BatchNorm normalises groups of 32 images.
Launch: tools/dist_train.sh configs/mocov2/resnet50_200e.py 8
"""

_base_ = [
    '../_base_/models/moco_resnet50.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/views/mocov2.py',
    '../_base_/schedules/sgd_cosine.py',
    '../_base_/default_runtime.py',
]
model = dict(
    neck=dict(type='mmpretrain.MoCoV2Neck', in_channels=2048, hid_channels=2048, out_channels=128),
    head=dict(temperature=0.2),
)
train_cfg = dict(max_epochs=200)
train_dataloader = dict(batch_size=32, dataset=dict(crops=dict(scale=(0.2, 1.0))))
