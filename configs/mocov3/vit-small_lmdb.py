"""MoCo v3, ViT-S/16, 300 epochs on your own images in an LMDB, no labels: vit-small_custom.py with one file.

Source: the recipe of vit-small_custom.py; only the data set differs.
Published: no number, and none is claimed here.
Hardware: one GPU, or a CPU with patience; memory as for vit-small_custom.py.
Launch: python tools/make_lmdb.py DIR images.lmdb
    python tools/train.py configs/mocov3/vit-small_lmdb.py --data-root images.lmdb
"""

_base_ = [
    '../_base_/models/mocov3_vit.py',
    '../_base_/datasets/lmdb.py',
    '../_base_/views/mocov3.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(arch='small'), neck=dict(in_channels=384))
optim_wrapper = dict(optimizer=dict(lr=6e-4))
train_dataloader = dict(batch_size=64)
