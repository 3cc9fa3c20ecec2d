"""MoCo v3, ViT-H/14, 300 epochs on ImageNet-1k.

Paper: arXiv 2104.02057, section 5; ViT-H in table 2 (32 blocks, width 1280, 16 heads), patches of 14 pixels.
Published: linear top-1 78.1 (table 1 of the paper, 512 TPUs); not re-run here. The official code has no recipe for
ViT-H: the values are the paper's defaults for transformers.
Hardware: 8 nodes x 8 GPUs x 64 images = 4096, mixed precision (--amp); with less memory, add model.chunk_size=32.
Launch, on node R of 8: NNODES=8 NODE_RANK=R MASTER_ADDR=HOST tools/dist_train.sh configs/mocov3/vit-huge.py 8
"""

_base_ = [
    '../_base_/models/mocov3_vit.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/views/mocov3.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(arch='huge', patch_size=14), neck=dict(in_channels=1280))
train_dataloader = dict(batch_size=64)
