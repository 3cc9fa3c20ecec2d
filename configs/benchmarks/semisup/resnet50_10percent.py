"""Semi-supervised evaluation of a ResNet-50: 20 epochs of fine-tuning on 10 % of ImageNet-1k.

Source: OpenSelfSup, which tries learning rates 0.001, 0.01 and 0.1 with head multipliers 1, 10 and 100 and reports the
best; for MoCo v1 and v2 that is this row. The list is the published one, DIR/10percent.txt, one image name per line;
tools/make_subset.py makes one for any other labelled folder.
Published: top-1 / top-5 60.08 / 84.02 (MoCo v1) and 61.80 / 85.11 (MoCo v2) after 200 epochs; not re-run here.
Hardware: 4 GPUs x 64 images.
Launch: tools/dist_train.sh configs/benchmarks/semisup/resnet50_10percent.py 4 --pretrained CHECKPOINT
"""

_base_ = [
    '../../_base_/models/finetune_resnet50.py',
    '../../_base_/datasets/imagenet_linear.py',
    '../../_base_/schedules/sgd_steps.py',
    '../../_base_/default_runtime.py',
]
optim_wrapper = dict(
    optimizer=dict(lr=0.01, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={'head.': dict(lr_mult=100.0)}),
)
param_scheduler = dict(milestones=[12, 16], gamma=0.2)
train_cfg = dict(max_epochs=20)
train_dataloader = dict(batch_size=64, dataset=dict(list_file='10percent.txt'))
