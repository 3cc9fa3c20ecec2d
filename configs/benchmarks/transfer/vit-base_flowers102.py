"""Transfer of MoCo v3 ViT-B/16 to Flowers-102, end to end: 100 epochs.

Source: official code, folder transfer: the values of its command line, no mixing. That line also asks for random
erasing, which has no effect: the data pipeline beside it does not erase.
Published: top-1 97.7; not re-run here.
Hardware: one node, 8 GPUs x 128 images.
Launch: tools/dist_train.sh configs/benchmarks/transfer/vit-base_flowers102.py 8 --data-root DIR --pretrained CHECKPOINT
"""

_base_ = [
    '../../_base_/models/finetune_vit.py',
    '../../_base_/datasets/transfer.py',
    '../../_base_/schedules/adamw_finetune.py',
    '../../_base_/default_runtime.py',
]
data_preprocessor = dict(num_classes=102)
model = dict(
    backbone=dict(arch='base', drop_path_rate=0.1),
    head=dict(in_channels=768, num_classes=102),
)
optim_wrapper = dict(optimizer=dict(lr=3e-4, weight_decay=0.3))
param_scheduler = dict(warmup_epochs=3)
train_cfg = dict(max_epochs=100)
train_dataloader = dict(dataset=dict(type='FlowersImages', data_root='data/flowers', split='trainval'))
val_dataloader = dict(dataset=dict(type='FlowersImages', data_root='data/flowers', split='test'))
test_dataloader = val_dataloader
