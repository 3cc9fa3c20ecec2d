"""MoCo v3, ViT-S/16, 300 epochs on your own images of 13 bands: Sentinel-2, as TIFF or NumPy arrays, no labels.

Source: vit-small_custom.py, which is the ViT-S recipe of arXiv 2104.02057 for a small batch, with the augmentation of
SSL4EO-S12 (arXiv 2211.07044). For N other bands set train_dataloader.dataset.channels, model.backbone.in_channels, and
mean and std of data_preprocessor, which tools/doctor.py measures; value_range is the range of the numbers. Pictures
show red, green and blue (B4, B3, B2).
Published: no number, and none is claimed here.
Hardware: one GPU.
Launch: python tools/train.py configs/mocov3/vit-small_multispectral.py --data-root DIR
"""

_base_ = [
    '../_base_/models/mocov3_vit.py',
    '../_base_/datasets/custom.py',
    '../_base_/views/multispectral.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(arch='small', in_channels=13), neck=dict(in_channels=384))
optim_wrapper = dict(optimizer=dict(lr=6e-4))
train_dataloader = dict(
    batch_size=64, dataset=dict(channels=13, value_range=(0, 10000), crops=dict(scale=(0.2, 1.0)))
)
default_hooks = dict(report=dict(bands=(3, 2, 1)))
