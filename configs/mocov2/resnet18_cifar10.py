"""MoCo v2, ResNet-18 with a 3 x 3 stem, 200 epochs on CIFAR-10.

Source: no paper's row. MoCo v2 with what is common at 32 px: a stem without stride and pooling, no blur, a queue and a
momentum for a small data set, temperature 0.1. BatchNorm normalises groups of 64 images, as 8 GPUs would.
Published: no number, and none is claimed here.
Hardware: one GPU, 512 images.
Launch: python tools/train.py configs/mocov2/resnet18_cifar10.py --data-root DIR
    where DIR holds data_batch_1.bin or data_batch_1
"""

_base_ = [
    '../_base_/models/moco_resnet50.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/views/mocov2_32px.py',
    '../_base_/schedules/sgd_cosine.py',
    '../_base_/default_runtime.py',
]
model = dict(
    queue_len=4096,
    base_momentum=0.99,
    backbone=dict(type='mmpretrain.ResNet_CIFAR', depth=18, norm_cfg=dict(group_size=64)),
    neck=dict(type='mmpretrain.MoCoV2Neck', in_channels=512, hid_channels=512, out_channels=128),
    head=dict(temperature=0.1),
)
optim_wrapper = dict(optimizer=dict(lr=0.06, weight_decay=5e-4))
auto_scale_lr = dict(base_batch_size=512)
train_cfg = dict(max_epochs=200)
train_dataloader = dict(batch_size=512)
