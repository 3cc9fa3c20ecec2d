"""Linear evaluation of MoCo v3 ResNet-50 on ImageNet-1k: frozen backbone, 90 epochs.

Paper: arXiv 2104.02057, section 5, with the values of the official code (the paper swept the learning rate at batch
4096).
Published: top-1 68.9 / 72.8 / 74.6 after 100 / 300 / 1000 epochs of pre-training (official CONFIG.md); not re-run
here.
Hardware: one node, 8 GPUs x 128 images.
Launch: tools/dist_train.sh configs/mocov3/resnet50_linear.py 8 --pretrained CHECKPOINT
"""

_base_ = [
    '../_base_/models/linear_resnet50.py',
    '../_base_/datasets/imagenet_linear.py',
    '../_base_/schedules/sgd_linear_90e.py',
    '../_base_/default_runtime.py',
]
optim_wrapper = dict(optimizer=dict(lr=0.1))
train_dataloader = dict(batch_size=128)
