"""Transfer of MoCo v3 ViT-B/16 to CIFAR-10, end to end: 100 epochs.

Source: official code, folder transfer: the values of its command line; images are enlarged to 224 px.
Published: top-1 98.9; not re-run here.
Hardware: one node, 8 GPUs x 128 images.
Launch: tools/dist_train.sh configs/benchmarks/transfer/vit-base_cifar10.py 8 --data-root DIR --pretrained CHECKPOINT
"""

_base_ = [
    '../../_base_/models/finetune_vit.py',
    '../../_base_/datasets/transfer.py',
    '../../_base_/schedules/adamw_finetune.py',
    '../../_base_/default_runtime.py',
]
data_preprocessor = dict(num_classes=10)
model = dict(
    backbone=dict(arch='base', drop_path_rate=0.1),
    head=dict(in_channels=768, num_classes=10),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
optim_wrapper = dict(optimizer=dict(lr=3e-4, weight_decay=0.1))
param_scheduler = dict(warmup_epochs=3)
train_cfg = dict(max_epochs=100)
train_dataloader = dict(dataset=dict(type='CIFAR10Images', data_root='data/cifar10', split='train'))
val_dataloader = dict(dataset=dict(type='CIFAR10Images', data_root='data/cifar10', split='test'))
test_dataloader = val_dataloader
