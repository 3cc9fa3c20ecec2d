"""MoCo v3, ResNet-18 on one channel, 200 epochs on 2,624 photographs of solar cells (ELPV), no labels.

Source: resnet18_custom.py with the views of gray images; all training and test images are pre-trained on, without
labels, as is usual for a data set this small.
Published: no number, and none is claimed here.
Hardware: one GPU, or a CPU with patience.
Launch: python tools/train.py configs/mocov3/resnet18_elpv.py --data-root DIR
    where DIR is the folder data of the Python package elpv-dataset: labels.csv, images
"""

_base_ = [
    '../_base_/models/mocov3_resnet50.py',
    '../_base_/datasets/custom.py',
    '../_base_/views/grayscale.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(depth=18, in_channels=1), neck=dict(in_channels=512), head=dict(temperature=0.2))
data_preprocessor = dict(mean=[152.3], std=[40.8])
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = dict(warmup_epochs=10)
train_cfg = dict(max_epochs=200)
train_dataloader = dict(
    batch_size=64,
    dataset=dict(type='ELPVImages', data_root='data/elpv', split='all', channels=1,
                 crops=dict(size=128, scale=(0.2, 1.0))))
