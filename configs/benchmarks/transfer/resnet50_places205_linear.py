"""Linear evaluation of a ResNet-50 on Places205: frozen backbone, pooled features of the last stage, 28 epochs.

Source: schedule of mmselfsup (lr 0.01, divided by 10 after 7, 14 and 21 epochs, Nesterov momentum); lists and images
of the Places205 archives: DIR/train_places205.csv, DIR/val_places205.csv with "PATH LABEL" lines, images below DIR.
Published: no number for this classifier; mmselfsup's 52.25 for MoCo v2 has larger pooled maps with BatchNorm.
Hardware: one node, 8 GPUs x 32 images.
Launch: tools/dist_train.sh configs/benchmarks/transfer/resnet50_places205_linear.py 8 --data-root DIR
    --pretrained CHECKPOINT; images elsewhere below DIR: train_dataloader.dataset.data_prefix, val_... and test_...
"""

_base_ = [
    '../../_base_/models/linear_resnet50.py',
    '../../_base_/datasets/transfer.py',
    '../../_base_/schedules/sgd_steps.py',
    '../../_base_/default_runtime.py',
]
model = dict(head=dict(num_classes=205))
optim_wrapper = dict(optimizer=dict(lr=0.01, weight_decay=1e-4, nesterov=True))
param_scheduler = dict(milestones=[7, 14, 21])
train_cfg = dict(max_epochs=28)
train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        type='ImageFiles', data_root='data/places205', list_file='train_places205.csv', crops=dict(scale=(0.08, 1.0))
    ),
)
val_dataloader = dict(
    dataset=dict(type='ImageFiles', data_root='data/places205', list_file='val_places205.csv')
)
test_dataloader = val_dataloader
