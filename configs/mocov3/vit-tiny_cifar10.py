"""MoCo v3, ViT-Ti with patches of 4 pixels, 800 epochs on CIFAR-10: a recipe for small images.

Source: no paper's row. The ViT recipe of arXiv 2104.02057 with what 32 px ask for: small patches, crops of at least a
fifth of the image, no blur, and the larger learning rate that a small model stands.
Published: no number, and none is claimed here.
Hardware: one GPU, 512 images.
Launch: python tools/train.py configs/mocov3/vit-tiny_cifar10.py --data-root DIR
    where DIR holds data_batch_1.bin or data_batch_1
"""

_base_ = [
    '../_base_/models/mocov3_vit.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/views/mocov3_32px.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(arch='tiny', img_size=32, patch_size=4), neck=dict(in_channels=192))
optim_wrapper = dict(optimizer=dict(lr=3e-4))
train_cfg = dict(max_epochs=800)
train_dataloader = dict(batch_size=512)
