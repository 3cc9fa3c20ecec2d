"""Linear evaluation of MoCo v3 ViT-B with a convolutional stem on ImageNet-1k: frozen backbone, 90 epochs.

Paper: arXiv 2104.02057, section 5, with the values of the official code (the paper swept the learning rate at batch
4096).
Published: no number.
Hardware: one node, 8 GPUs x 128 images.
Launch: tools/dist_train.sh configs/mocov3/vit-base-conv_linear.py 8 --pretrained CHECKPOINT
"""

_base_ = [
    '../_base_/models/linear_vit.py',
    '../_base_/datasets/imagenet_linear.py',
    '../_base_/schedules/sgd_linear_90e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(arch='base', stem='conv'), head=dict(in_channels=768))
optim_wrapper = dict(optimizer=dict(lr=3.0))
train_dataloader = dict(batch_size=128)
