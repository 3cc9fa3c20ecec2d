"""MoCo v2, a ResNet-18 of a quarter of the width, 20 epochs on the 60,000 training images of Fashion-MNIST.

Source: no paper's row. MoCo v2 made small.
Published: no number. What was measured, and how it was chosen: docs/small_images.md
Hardware: 2 CPU cores, 128 images.
Launch: python tools/train.py configs/mocov2/resnet18_fashion.py --data-root DIR
    where DIR holds train-images-idx3-ubyte.gz; Debian's package dataset-fashion-mnist has it
"""

_base_ = [
    '../_base_/models/moco_resnet50.py',
    '../_base_/datasets/fashion_mnist.py',
    '../_base_/schedules/sgd_cosine.py',
    '../_base_/default_runtime.py',
]
model = dict(
    queue_len=4096,
    base_momentum=0.99,
    symmetric=True,
    backbone=dict(type='mmpretrain.ResNet_CIFAR', depth=18, stem_channels=16, base_channels=16, strides=(2, 2, 2, 2)),
    neck=dict(type='mmpretrain.MoCoV2Neck', in_channels=128, hid_channels=128, out_channels=128),
    head=dict(temperature=0.1),
)
optim_wrapper = dict(optimizer=dict(lr=0.06, weight_decay=5e-4))
auto_scale_lr = dict(base_batch_size=128)
param_scheduler = dict(warmup_epochs=1, convert_to_iter_based=True)
train_cfg = dict(max_epochs=20)
