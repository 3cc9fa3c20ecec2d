"""Linear evaluation of ResNet-18 on one channel: the degree of defect of a solar cell (ELPV), frozen backbone.

Source: no paper's row. The protocol of the official code for ResNets; every fourth cell of a class is tested.
Published: no number, and none is claimed here.
Hardware: one GPU, or a CPU.
Launch: python tools/train.py configs/mocov3/resnet18_elpv_linear.py --data-root DIR --pretrained CHECKPOINT
    where DIR is the folder data of the Python package elpv-dataset: labels.csv, images
"""

_base_ = [
    '../_base_/models/linear_resnet50.py',
    '../_base_/datasets/elpv_linear.py',
    '../_base_/schedules/sgd_linear_90e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(depth=18, in_channels=1),
    head=dict(num_classes=4, in_channels=512, topk=(1,)),
)
optim_wrapper = dict(optimizer=dict(lr=0.1))
