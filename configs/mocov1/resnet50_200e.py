"""MoCo v1, ResNet-50, 200 epochs on ImageNet-1k.

Paper: arXiv 1911.05722, section 3.3 and 4.1, with the values of the official code.
Published: linear top-1 60.6 (paper, table 1; 60.8 +- 0.2 over 5 runs in the official README); not re-run here.
Hardware: one node, 8 GPUs x 32 images = 256; BatchNorm normalises groups of 32 images.
Launch: tools/dist_train.sh configs/mocov1/resnet50_200e.py 8
"""

_base_ = [
    '../_base_/models/moco_resnet50.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/views/mocov1.py',
    '../_base_/schedules/sgd_step_200e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    neck=dict(type='mmpretrain.LinearNeck', in_channels=2048, out_channels=128, gap_dim=2, norm_cfg=None),
    head=dict(temperature=0.07),
)
train_dataloader = dict(batch_size=32, dataset=dict(crops=dict(scale=(0.2, 1.0))))
