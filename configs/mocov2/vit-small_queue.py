"""MoCo v2's queue with ViT-S/16, 300 epochs on ImageNet-1k: negatives without a large batch.

Source: no paper's row. Queue, loss, projector, augmentation and momentum of MoCo v2 (arXiv 2003.04297); backbone and
optimizer of MoCo v3's ViT-S (arXiv 2104.02057). Nothing here has BatchNorm, so keys need no shuffling.
Published: no number, and none is claimed here.
Hardware: one GPU, 256 images; model.chunk_size trains the same batch in less memory.
Launch: python tools/train.py configs/mocov2/vit-small_queue.py
"""

_base_ = [
    '../_base_/models/moco_resnet50.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/views/mocov2.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(_delete_=True, type='MoCoViT', arch='small'),
    neck=dict(
        type='mmpretrain.MoCoV2Neck', in_channels=384, hid_channels=2048, out_channels=128, with_avg_pool=False),
    head=dict(temperature=0.2),
)
train_dataloader = dict(batch_size=256, dataset=dict(crops=dict(scale=(0.2, 1.0))))
