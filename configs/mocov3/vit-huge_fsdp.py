"""MoCo v3, ViT-H/14, 300 epochs on ImageNet-1k, weights and optimizer states spread over all GPUs.

Paper: arXiv 2104.02057, section 5; ViT-H in table 2. The recipe is that of vit-huge.py, and so are its numbers: only
where the weights are kept differs (torch's fully_shard, momentum encoder included). Checkpoints are those of vit-huge.
Published: no number for this row; for ViT-H it is 78.1 (table 1 of the paper, 512 TPUs).
Hardware: 8 nodes x 8 GPUs x 64 images = 4096, bfloat16; with less memory, add model.chunk_size=32 (torch 2.14).
Launch, on node R of 8: NNODES=8 NODE_RANK=R MASTER_ADDR=HOST tools/dist_train.sh configs/mocov3/vit-huge_fsdp.py 8
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
optim_wrapper = dict(type='mocox.AmpOptimWrapper', dtype='bfloat16')
model_wrapper_cfg = dict(_delete_=True, type='mocox.FullyShard', param_dtype='bfloat16')
