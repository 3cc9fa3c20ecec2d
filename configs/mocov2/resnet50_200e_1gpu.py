"""MoCo v2, ResNet-50, 200 epochs on ImageNet-1k, on one GPU.

Paper: arXiv 2003.04297, with the values of the official code.
Published: no number for one GPU; 67.7 is that of resnet50_200e.py on eight. The batch, the statistics of BatchNorm over
groups of 32 images and the shuffling of keys between the groups are the same: ``SplitBN`` takes the place of the GPUs.
Hardware: one GPU, 256 images, mixed precision (--amp); model.chunk_size=64 trains the same in less memory.
Launch: python tools/train.py configs/mocov2/resnet50_200e_1gpu.py
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
train_dataloader = dict(batch_size=256, dataset=dict(crops=dict(scale=(0.2, 1.0))))
