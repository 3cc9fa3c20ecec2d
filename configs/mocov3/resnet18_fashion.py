"""MoCo v3, a ResNet-18 of a quarter of the width, 20 epochs on the 60,000 training images of Fashion-MNIST.

Source: the ResNet of arXiv 2104.02057 made small, with the temperature 0.2 and the trust coefficient 0.02 that
solo-learn has for CIFAR. With the published 0.001 a step moves a weight by a thousandth of its size times the learning
rate, which suits the hundreds of thousands of steps of ImageNet and not the thousands of a small data set.
Published: no number. Measured with 16 epochs, seed 0: k-NN (k=20) 85.7 %, logistic regression 87.3 %; of its last
    two maps, 2 x 2, 86.3 % and 89.9 %. More, and how it was chosen: docs/small_images.md
Hardware: 2 CPU cores, 128 images.
Launch: python tools/train.py configs/mocov3/resnet18_fashion.py --data-root DIR
    where DIR holds train-images-idx3-ubyte.gz; Debian's package dataset-fashion-mnist has it
"""

_base_ = [
    '../_base_/models/mocov3_resnet50.py',
    '../_base_/datasets/fashion_mnist.py',
    '../_base_/schedules/lars.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='mmpretrain.ResNet_CIFAR', depth=18, stem_channels=16, base_channels=16, strides=(2, 2, 2, 2),
        zero_init_residual=False),
    neck=dict(in_channels=128, hid_channels=512, out_channels=128),
    head=dict(temperature=0.2, predictor=dict(in_channels=128, hid_channels=512, out_channels=128)),
)
optim_wrapper = dict(optimizer=dict(lr=0.3, weight_decay=1e-6, trust_coefficient=0.02))
param_scheduler = dict(warmup_epochs=1)
train_cfg = dict(max_epochs=20)
