"""MoCo v3, ViT-Ti/16, 300 epochs on your own images: for a laptop, a CPU, or a few hundred images.

Source: vit-small_custom.py with a backbone of half the width; 12 heads as all of MoCo v3's smaller ViTs have.
Published: no number, and none is claimed here.
Hardware: one GPU, or a CPU; --image-size 96 takes about a fifth of the time.
Launch: python tools/train.py configs/mocov3/vit-tiny_custom.py --data-root DIR
"""

_base_ = [
    '../_base_/models/mocov3_vit.py',
    '../_base_/datasets/custom.py',
    '../_base_/views/mocov3.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(arch='tiny'), neck=dict(in_channels=192))
optim_wrapper = dict(optimizer=dict(lr=6e-4))
train_dataloader = dict(batch_size=64)
