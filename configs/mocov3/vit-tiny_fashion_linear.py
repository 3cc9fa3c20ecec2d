"""Linear evaluation of the small ViT of MoCo v3 on Fashion-MNIST: frozen backbone, 30 epochs.

Source: no paper's row. The protocol of the official code, on 28 px.
Published: no number, and none is claimed here.
Hardware: 2 CPU cores, 256 images.
Launch: python tools/train.py configs/mocov3/vit-tiny_fashion_linear.py --data-root DIR --pretrained CHECKPOINT
"""

_base_ = [
    '../_base_/models/linear_vit.py',
    '../_base_/datasets/fashion_mnist_linear.py',
    '../_base_/schedules/sgd_linear_90e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        arch=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384), img_size=28, patch_size=4,
        stem='conv'),
    head=dict(num_classes=10, in_channels=96),
)
optim_wrapper = dict(optimizer=dict(lr=3.0))
train_cfg = dict(max_epochs=30, val_interval=10)
