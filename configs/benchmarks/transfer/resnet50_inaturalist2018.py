"""Transfer of a ResNet-50 to iNaturalist 2018 (8,142 species), end to end: 100 epochs.

Paper: arXiv 1911.05722, appendix (iNaturalist fine-tuning): lr 0.025, divided by 10 at 70 % and 90 % of the training;
batch 256 and weight decay 1e-4 are those of its ImageNet training [M].
Published: top-1 65.6 for MoCo v1 on ImageNet-1M (random weights 61.8, supervised 66.1); not re-run here.
Hardware: one node, 8 GPUs x 32 images.
Launch: tools/dist_train.sh configs/benchmarks/transfer/resnet50_inaturalist2018.py 8 --data-root DIR
    --pretrained CHECKPOINT, where DIR holds train_val2018/, train2018.json and val2018.json
"""

_base_ = [
    '../../_base_/models/finetune_resnet50.py',
    '../../_base_/datasets/transfer.py',
    '../../_base_/schedules/sgd_steps.py',
    '../../_base_/default_runtime.py',
]
model = dict(head=dict(num_classes=8142))
optim_wrapper = dict(optimizer=dict(lr=0.025, weight_decay=1e-4))
param_scheduler = dict(milestones=[70, 90])
train_cfg = dict(max_epochs=100)
train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        type='INaturalistImages', data_root='data/inat2018', split='train2018', crops=dict(scale=(0.08, 1.0))
    ),
)
val_dataloader = dict(dataset=dict(type='INaturalistImages', data_root='data/inat2018', split='val2018'))
test_dataloader = val_dataloader
