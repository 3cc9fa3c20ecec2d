"""MoCo v3, ViT-S/16, 300 epochs on ImageNet-1k, the official one-node recipe.

Paper: arXiv 2104.02057, section 5; ViT-S in table 2, with 12 heads (timm's and DeiT's ViT-S have 6).
Published: linear top-1 73.2 at batch 4096 (official CONFIG.md; 72.5 in table 4 of the paper); not re-run here. No
number is published for this batch of 1024, which the official code offers for one node at the same learning rate per
256 images.
Hardware: one node, 8 GPUs x 128 images (officially V100 32 GB, mixed precision: --amp).
Launch: tools/dist_train.sh configs/mocov3/vit-small.py 8
"""

_base_ = [
    '../_base_/models/mocov3_vit.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/views/mocov3.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(arch='small'), neck=dict(in_channels=384))
train_dataloader = dict(batch_size=128)
