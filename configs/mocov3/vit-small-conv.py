"""MoCo v3, ViT-S with a convolutional stem in place of patches and of one block, 300 epochs on ImageNet-1k.

Paper: arXiv 2104.02057 and its official code (vit_conv_small); the stem is that of arXiv 2106.14881.
Published: no number; the recipe is that of vit-small.py. Freezing the patch projection has no meaning for this stem.
Hardware: one node, 8 GPUs x 128 images, mixed precision (--amp).
Launch: tools/dist_train.sh configs/mocov3/vit-small-conv.py 8
"""

_base_ = [
    '../_base_/models/mocov3_vit.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/views/mocov3.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(arch='small', stem='conv'), neck=dict(in_channels=384))
train_dataloader = dict(batch_size=128)
