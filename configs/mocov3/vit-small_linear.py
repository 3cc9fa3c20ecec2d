"""Linear evaluation of MoCo v3 ViT-S/16 on ImageNet-1k: frozen backbone, 90 epochs.

Paper: arXiv 2104.02057, section 5, with the values of the official code (the paper swept the learning rate at batch
4096).
Published: top-1 73.2 after pre-training at batch 4096 (official CONFIG.md); not re-run here.
Hardware: one node, 8 GPUs x 128 images.
Launch: tools/dist_train.sh configs/mocov3/vit-small_linear.py 8 --pretrained CHECKPOINT
"""

_base_ = [
    '../_base_/models/linear_vit.py',
    '../_base_/datasets/imagenet_linear.py',
    '../_base_/schedules/sgd_linear_90e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(arch='small'), head=dict(in_channels=384))
optim_wrapper = dict(optimizer=dict(lr=3.0))
train_dataloader = dict(batch_size=128)
