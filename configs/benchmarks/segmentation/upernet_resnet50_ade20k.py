"""UPerNet with a ResNet-50 on ADE20K, 160k iterations; needs mmsegmentation.

Source: the UPerNet recipe of mmsegmentation (SGD, lr 0.01, polynomial decay).
Published: no number for MoCo, and none is claimed here.
Hardware: one node, 8 GPUs x 2 images.
Launch: tools/dist_train.sh configs/benchmarks/segmentation/upernet_resnet50_ade20k.py 8 --data-root DIR
    --pretrained CHECKPOINT
"""

_base_ = [
    '../../_base_/models/mmseg_upernet.py',
    '../../_base_/datasets/mmseg_ade20k.py',
    '../../_base_/schedules/mmseg_iters.py',
    '../../_base_/mmseg_runtime.py',
]
model = dict(
    backbone=dict(type='ResNet', depth=50, norm_cfg=dict(type='mocox.SyncBN', requires_grad=True), norm_eval=False),
    decode_head=dict(in_channels=[256, 512, 1024, 2048]),
    auxiliary_head=dict(in_channels=1024),
)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4))
train_cfg = dict(max_iters=160000)
param_scheduler = dict(type='PolyLR', eta_min=1e-4, power=0.9, by_epoch=False)
