"""Linear evaluation of MoCo v2 ResNet-18 on CIFAR-10: frozen backbone, 100 epochs.

Source: the protocol of the official code, on 32 px.
Published: no number, and none is claimed here.
Hardware: one GPU, 256 images.
Launch: python tools/train.py configs/mocov2/resnet18_cifar10_linear.py --data-root DIR --pretrained CHECKPOINT
"""

_base_ = [
    '../_base_/models/linear_resnet50.py',
    '../_base_/datasets/cifar10_linear.py',
    '../_base_/schedules/sgd_linear_100e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(type='mmpretrain.ResNet_CIFAR', depth=18),
    head=dict(num_classes=10, in_channels=512),
)
train_dataloader = dict(batch_size=256)
