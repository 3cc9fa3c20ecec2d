"""Symmetric MoCo v2 ("v2+"), ResNet-50, 100 epochs on ImageNet-1k: both views are queries, each with a queue.

Source: the recipe that solo-learn calls MoCo v2+, after arXiv 2011.10566. There BatchNorm is synchronised and nothing
shuffled; here it normalises groups of 32 images with shuffled keys, so that statistics do not leak.
Published: linear top-1 66.84 (solo-learn, 100 epochs); not re-run here.
Hardware: one node, 2 GPUs x 64 images = 128.
Launch: tools/dist_train.sh configs/mocov2/resnet50_symmetric_100e.py 2
"""

_base_ = [
    '../_base_/models/moco_resnet50.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/views/mocov2.py',
    '../_base_/schedules/sgd_cosine.py',
    '../_base_/default_runtime.py',
]
model = dict(
    symmetric=True,
    neck=dict(type='mmpretrain.MoCoV2Neck', in_channels=2048, hid_channels=2048, out_channels=256),
    head=dict(temperature=0.2),
    feat_dim=256,
    base_momentum=0.99,
)
custom_hooks = [dict(type='MomentumUpdateHook', end_momentum=0.999)]
optim_wrapper = dict(optimizer=dict(lr=0.3, weight_decay=3e-5))
auto_scale_lr = dict(enable=True)
param_scheduler = dict(warmup_epochs=10, convert_to_iter_based=True)
train_cfg = dict(max_epochs=100)
train_dataloader = dict(batch_size=64, dataset=dict(crops=dict(interpolation='bicubic')))
