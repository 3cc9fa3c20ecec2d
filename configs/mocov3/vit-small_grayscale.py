"""MoCo v3, ViT-S/16, 300 epochs on your own gray images: X-rays, microscopes, cells, factory cameras, no labels.

Source: vit-small_custom.py, which is the ViT-S recipe of arXiv 2104.02057 for a small batch, on one channel; colour
images become gray. Scans of 12 bits in 16-bit files: train_dataloader.dataset.value_range="(0,4095)"; where images have
no upright orientation add vertical_flip_prob and quarter_turn_prob to the views.
Published: no number, and none is claimed here.
Hardware: one GPU, or a CPU with patience.
Launch: python tools/train.py configs/mocov3/vit-small_grayscale.py --data-root DIR
"""

_base_ = [
    '../_base_/models/mocov3_vit.py',
    '../_base_/datasets/custom.py',
    '../_base_/views/grayscale.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(arch='small', in_channels=1), neck=dict(in_channels=384))
optim_wrapper = dict(optimizer=dict(lr=6e-4))
train_dataloader = dict(batch_size=64, dataset=dict(channels=1))
