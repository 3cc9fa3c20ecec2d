"""Linear evaluation of MoCo v2 ResNet-50 on ImageNet-1k: frozen backbone, 100 epochs.

Paper: arXiv 2003.04297, with the values of the official code: those of MoCo v1.
Published: top-1 67.7 / 71.1 after 200 / 800 epochs of pre-training (official README); not re-run here.
Hardware: one node, 8 GPUs x 32 images = 256.
Launch: tools/dist_train.sh configs/mocov2/resnet50_linear.py 8 --pretrained CHECKPOINT
"""

_base_ = [
    '../_base_/models/linear_resnet50.py',
    '../_base_/datasets/imagenet_linear.py',
    '../_base_/schedules/sgd_linear_100e.py',
    '../_base_/default_runtime.py',
]
train_dataloader = dict(batch_size=32)
