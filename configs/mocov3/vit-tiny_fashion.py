"""MoCo v3, a ViT of 4 blocks with convolutional stem, 100 epochs on the 60,000 training images of Fashion-MNIST.

Source: no paper's row. The recipe of the demo's digits, vit-tiny_digits.py, on 28 px, with crops in place of rotations.
Published: no number, and none is claimed here.
Hardware: 2 CPU cores, 128 images.
Launch: python tools/train.py configs/mocov3/vit-tiny_fashion.py --data-root DIR
    where DIR holds train-images-idx3-ubyte.gz; Debian's package dataset-fashion-mnist has it
"""

_base_ = [
    '../_base_/models/mocov3_vit.py',
    '../_base_/datasets/fashion_mnist.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        arch=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384), img_size=28, patch_size=4,
        stem='conv'),
    neck=dict(in_channels=96, hid_channels=256, out_channels=128),
    head=dict(predictor=dict(in_channels=128, hid_channels=256, out_channels=128)),
)
optim_wrapper = dict(optimizer=dict(lr=3e-3))
param_scheduler = dict(warmup_epochs=5)
train_cfg = dict(max_epochs=100)
