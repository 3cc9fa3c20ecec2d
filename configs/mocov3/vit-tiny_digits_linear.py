"""Linear evaluation of the demo's ViT on 1,437 + 360 handwritten digits.

Source: no paper's row.
Published: no number.
Hardware: 2 CPU cores, 128 images.
Launch: python tools/train.py configs/mocov3/vit-tiny_digits_linear.py --pretrained CHECKPOINT
"""

_base_ = [
    '../_base_/models/linear_vit.py',
    '../_base_/datasets/digits_linear.py',
    '../_base_/schedules/sgd_linear_90e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        arch=dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=256), img_size=16, patch_size=4),
    head=dict(num_classes=10, in_channels=64),
)
optim_wrapper = dict(optimizer=dict(lr=3.0))
train_cfg = dict(max_epochs=30, val_interval=30)
