"""Linear evaluation of the narrow ResNet-18 on 1,437 + 360 handwritten digits.

Source: no paper's row.
Published: no number.
Hardware: 2 CPU cores, 128 images.
Launch: python tools/train.py configs/mocov2/resnet18_digits_linear.py --pretrained CHECKPOINT
"""

_base_ = [
    '../_base_/models/linear_resnet50.py',
    '../_base_/datasets/digits_linear.py',
    '../_base_/schedules/sgd_linear_90e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(type='mmpretrain.ResNet_CIFAR', depth=18, stem_channels=16, base_channels=16),
    head=dict(num_classes=10, in_channels=128),
)
optim_wrapper = dict(optimizer=dict(lr=3.0))
train_cfg = dict(max_epochs=30, val_interval=30)
