"""MoCo v3, ViT-S/16, 300 epochs on your own patches of stained tissue, no labels.

Source: vit-small_custom.py, which is the ViT-S recipe of arXiv 2104.02057 for a small batch, with stains varied as in
arXiv 1902.06543 ("light") and all orientations, as in arXiv 2212.04690. For patches of slides, cut beforehand.
Published: no number, and none is claimed here.
Hardware: one GPU.
Launch: python tools/train.py configs/mocov3/vit-small_pathology.py --data-root DIR
"""

_base_ = [
    '../_base_/models/mocov3_vit.py',
    '../_base_/datasets/custom.py',
    '../_base_/views/pathology.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(arch='small'), neck=dict(in_channels=384))
optim_wrapper = dict(optimizer=dict(lr=6e-4))
train_dataloader = dict(batch_size=64, dataset=dict(crops=dict(scale=(0.2, 1.0))))
