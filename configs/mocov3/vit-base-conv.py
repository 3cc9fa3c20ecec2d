"""MoCo v3, ViT-B with a convolutional stem in place of patches and of one block, 300 epochs on ImageNet-1k.

Paper: arXiv 2104.02057 and its official code (vit_conv_base); the stem is that of arXiv 2106.14881.
Published: no number; the recipe is that of vit-base.py. Freezing the patch projection has no meaning for this stem.
Hardware: 8 nodes x 8 GPUs x 64 images = 4096, mixed precision (--amp).
Launch, on node R of 8: NNODES=8 NODE_RANK=R MASTER_ADDR=HOST tools/dist_train.sh configs/mocov3/vit-base-conv.py 8
"""

_base_ = [
    '../_base_/models/mocov3_vit.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/views/mocov3.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(arch='base', stem='conv'), neck=dict(in_channels=768))
train_dataloader = dict(batch_size=64)
