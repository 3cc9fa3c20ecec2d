"""Linear evaluation of MoCo v3 ViT-Ti on CIFAR-10: frozen backbone, 90 epochs.

Source: the protocol of the official code for transformers, on 32 px.
Published: no number, and none is claimed here.
Hardware: one GPU, 1024 images.
Launch: python tools/train.py configs/mocov3/vit-tiny_cifar10_linear.py --data-root DIR --pretrained CHECKPOINT
"""

_base_ = [
    '../_base_/models/linear_vit.py',
    '../_base_/datasets/cifar10_linear.py',
    '../_base_/schedules/sgd_linear_90e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(arch='tiny', img_size=32, patch_size=4),
    head=dict(num_classes=10, in_channels=192),
)
optim_wrapper = dict(optimizer=dict(lr=3.0))
train_dataloader = dict(batch_size=1024)
