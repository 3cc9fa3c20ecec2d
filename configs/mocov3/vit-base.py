"""MoCo v3, ViT-B/16, 300 epochs on ImageNet-1k.

Paper: arXiv 2104.02057, section 5; ViT-B in table 2.
Published: linear top-1 76.7 (official CONFIG.md; 76.5 in table 4 of the paper); not re-run here.
Hardware: 8 nodes x 8 GPUs x 64 images = 4096 (officially V100 32 GB, mixed precision: --amp).
Launch, on node R of 8: NNODES=8 NODE_RANK=R MASTER_ADDR=HOST tools/dist_train.sh configs/mocov3/vit-base.py 8
"""

_base_ = [
    '../_base_/models/mocov3_vit.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/views/mocov3.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(arch='base'), neck=dict(in_channels=768))
train_dataloader = dict(batch_size=64)
