"""Linear evaluation of the ResNet-18 that keeps places on Fashion-MNIST: frozen backbone, 30 epochs.

Read are the 4 x 4 places of the third stage's map, in front of the last stage, which serves the contrastive loss more.

Source: no paper's row. The protocol of the official code, on 28 px.
Published: no number, and none is claimed here.
Hardware: 2 CPU cores, 256 images.
Launch: python tools/train.py configs/mocov3/resnet18-grid_fashion_linear.py --data-root DIR --pretrained CHECKPOINT
    or, in minutes: mocox evaluate CHECKPOINT --config configs/mocov3/resnet18-grid_fashion_linear.py --data-root DIR
        --protocols knn logreg
"""

_base_ = [
    '../_base_/models/linear_resnet50.py',
    '../_base_/datasets/fashion_mnist_linear.py',
    '../_base_/schedules/sgd_linear_90e.py',
    '../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        type='GridPooledResNet', depth=18, stem_channels=32, base_channels=32, strides=(2, 2, 2, 2), grid=4,
        out_indices=(2,)),
    head=dict(num_classes=10, in_channels=2048),
)
optim_wrapper = dict(optimizer=dict(lr=3.0))
train_cfg = dict(max_epochs=30, val_interval=10)
