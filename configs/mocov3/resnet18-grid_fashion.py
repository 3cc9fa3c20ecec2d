"""MoCo v3, a ResNet-18 of half of the width that keeps places, 18 epochs on the 60,000 images of Fashion-MNIST.

Source: resnet18_fashion.py with twice the width, the four quarters of the last map side by side in place of their mean,
    a stronger jitter, a weak blur and larger crops.
Published: no number. Measured with seed 0, of the 4 x 4 map of the third stage: k-NN (k=20) 88.9 %, logistic
    regression 92.0 %. More: docs/small_images.md
Hardware: 2 CPU cores, 128 images.
Launch: python tools/train.py configs/mocov3/resnet18-grid_fashion.py --amp --data-root DIR
    where DIR holds train-images-idx3-ubyte.gz; Debian's package dataset-fashion-mnist has it
"""

_base_ = [
    '../_base_/models/mocov3_resnet50.py',
    '../_base_/datasets/fashion_mnist.py',
    '../_base_/schedules/lars.py',
    '../_base_/default_runtime.py',
]
data_preprocessor = dict(
    views=[
        dict(
            color_jitter=dict(brightness=0.8, contrast=0.8), color_jitter_prob=1.0, blur_prob=0.5,
            blur_sigma=(0.1, 1.0), flip_prob=0.5)
    ] * 2)
train_dataloader = dict(dataset=dict(crops=dict(scale=(0.5, 1.0))))
model = dict(
    channels_last=True,
    backbone=dict(
        type='GridPooledResNet', depth=18, stem_channels=32, base_channels=32, strides=(2, 2, 2, 2), grid=2,
        zero_init_residual=False),
    neck=dict(in_channels=1024, hid_channels=512, out_channels=128),
    head=dict(temperature=0.2, predictor=dict(in_channels=128, hid_channels=512, out_channels=128)),
)
optim_wrapper = dict(optimizer=dict(lr=0.3, weight_decay=1e-6, trust_coefficient=0.02))
param_scheduler = dict(warmup_epochs=1)
train_cfg = dict(max_epochs=18)
