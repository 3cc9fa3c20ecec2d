"""MoCo v3, ResNet-50, 1000 epochs on ImageNet-1k.

Paper: arXiv 2104.02057, appendix A, with the values of the official code for 1000 epochs.
Published: linear top-1 74.6 (official CONFIG.md); not re-run here.
Hardware: 2 nodes x 8 GPUs x 256 images = 4096 (officially V100 32 GB, mixed precision: --amp).
Launch, on node R of 2: NNODES=2 NODE_RANK=R MASTER_ADDR=HOST tools/dist_train.sh configs/mocov3/resnet50_1000e.py 8
"""

_base_ = [
    '../_base_/models/mocov3_resnet50.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/views/mocov3.py',
    '../_base_/schedules/lars.py',
    '../_base_/default_runtime.py',
]
model = dict(base_momentum=0.996)
optim_wrapper = dict(optimizer=dict(lr=0.3, weight_decay=1.5e-6))
train_cfg = dict(max_epochs=1000)
train_dataloader = dict(batch_size=256, dataset=dict(crops=dict(scale=(0.2, 1.0))))
