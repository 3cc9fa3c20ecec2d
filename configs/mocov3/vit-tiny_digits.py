"""MoCo v3, a ViT of 4 blocks with patches of 4 pixels, 100 epochs on 1,437 handwritten digits: the recipe of the demo.

Source: no paper's row. The ViT recipe of arXiv 2104.02057, made small, with distortions that leave a digit what it is in
place of crops and flips.
Published: no number.
Hardware: 2 CPU cores, 128 images.
Launch: python tools/demo.py, which also writes data/digits; then
    python tools/train.py configs/mocov3/vit-tiny_digits.py
"""

_base_ = [
    '../_base_/models/mocov3_vit.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        arch=dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=256), img_size=16, patch_size=4),
    neck=dict(in_channels=64, hid_channels=256, out_channels=128),
    head=dict(predictor=dict(in_channels=128, hid_channels=256, out_channels=128)),
)
optim_wrapper = dict(optimizer=dict(lr=3e-3))
param_scheduler = dict(warmup_epochs=10)
train_cfg = dict(max_epochs=100)
