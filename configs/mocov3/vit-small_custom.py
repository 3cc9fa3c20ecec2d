"""MoCo v3, ViT-S/16, 300 epochs on your own images: any folder, nested or flat, no labels.

Source: the ViT-S recipe of arXiv 2104.02057 for a small batch on one device. The learning rate per 256 images is four
times the paper's, so that 256 images train at the rate of its batch of 1024. A batch of 64 suits folders from 100
images on; with thousands, raise train_dataloader.batch_size to 256 or more; model.chunk_size trains the same batch in
less memory.
Published: no number, and none is claimed here.
Hardware: one GPU, or a CPU with patience; about 9 GB of memory, 5 with --cfg-options model.chunk_size=32 (measured on
a CPU).
Launch: python tools/train.py configs/mocov3/vit-small_custom.py --data-root DIR
"""

_base_ = [
    '../_base_/models/mocov3_vit.py',
    '../_base_/datasets/custom.py',
    '../_base_/views/mocov3.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(arch='small'), neck=dict(in_channels=384))
optim_wrapper = dict(optimizer=dict(lr=6e-4))
train_dataloader = dict(batch_size=64)
