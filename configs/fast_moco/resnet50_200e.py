"""Fast-MoCo, ResNet-50, 200 epochs on ImageNet-1k.

Paper: arXiv 2207.08220, section 3 and 4, with the values of the official code.
Published: linear top-1 75.1 (official README); not re-run here.
Hardware: 2 nodes x 8 GPUs x 32 images = 512.
Launch, on node R of 2: NNODES=2 NODE_RANK=R MASTER_ADDR=HOST tools/dist_train.sh configs/fast_moco/resnet50_200e.py 8
"""

_base_ = [
    '../_base_/models/fast_moco_resnet50.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/views/mocov2.py',
    '../_base_/schedules/sgd_fast_moco.py',
    '../_base_/default_runtime.py',
]
train_cfg = dict(max_epochs=200)
train_dataloader = dict(batch_size=32, dataset=dict(crops=dict(scale=(0.2, 1.0), interpolation='bicubic')))
