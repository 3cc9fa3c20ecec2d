"""Semi-supervised evaluation of a ResNet-50: 20 epochs of fine-tuning on 1 % of ImageNet-1k.

Source: OpenSelfSup, which tries learning rates 0.001, 0.01 and 0.1 with head multipliers 1, 10 and 100 and reports the
best; for MoCo v1 and v2 that is this row. The list is the published one, DIR/1percent.txt, one image name per line;
tools/make_subset.py makes one for any other labelled folder.
Published: top-1 / top-5 33.15 / 61.30 (MoCo v1) and 39.07 / 68.31 (MoCo v2) after 200 epochs; not re-run here.
Hardware: 4 GPUs x 64 images.
Launch: tools/dist_train.sh configs/benchmarks/semisup/resnet50_1percent.py 4 --pretrained CHECKPOINT
"""

_base_ = [
    '../../_base_/models/finetune_resnet50.py',
    '../../_base_/datasets/imagenet_linear.py',
    '../../_base_/schedules/sgd_steps.py',
    '../../_base_/default_runtime.py',
]
optim_wrapper = dict(
    optimizer=dict(lr=0.01, weight_decay=5e-4),
    paramwise_cfg=dict(custom_keys={'head.': dict(lr_mult=100.0)}),
)
param_scheduler = dict(milestones=[12, 16], gamma=0.2)
train_cfg = dict(max_epochs=20)
train_dataloader = dict(batch_size=64, dataset=dict(list_file='1percent.txt'))
