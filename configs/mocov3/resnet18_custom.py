"""MoCo v3, ResNet-18, 300 epochs on your own images: the small convolutional network, for a laptop or a CPU.

Source: the ResNet of arXiv 2104.02057 with the temperature and the optimizer of its transformers. LARS moves weights
by at most a thousandth of their size, times the learning rate, in a step: with a batch of 64 it would hardly move them.
Published: no number, and none is claimed here.
Hardware: one GPU, or a CPU; --image-size 96 takes about a fifth of the time.
Launch: python tools/train.py configs/mocov3/resnet18_custom.py --data-root DIR
"""

_base_ = [
    '../_base_/models/mocov3_resnet50.py',
    '../_base_/datasets/custom.py',
    '../_base_/views/mocov3.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(depth=18), neck=dict(in_channels=512), head=dict(temperature=0.2))
optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_dataloader = dict(batch_size=64, dataset=dict(crops=dict(scale=(0.2, 1.0))))
