"""MoCo v3, ViT-L/16, 300 epochs on ImageNet-1k.

Paper: arXiv 2104.02057, section 5; ViT-L in table 2 (24 blocks, width 1024, 16 heads).
Published: linear top-1 77.6 (table 1 of the paper, TPUs); not re-run here. The official code has no recipe for ViT-L:
the values are the paper's defaults for transformers.
Hardware: 8 nodes x 8 GPUs x 64 images = 4096, mixed precision (--amp).
Launch, on node R of 8: NNODES=8 NODE_RANK=R MASTER_ADDR=HOST tools/dist_train.sh configs/mocov3/vit-large.py 8
"""

_base_ = [
    '../_base_/models/mocov3_vit.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/views/mocov3.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(arch='large'), neck=dict(in_channels=1024))
train_dataloader = dict(batch_size=64)
