"""Fine-tuning of MoCo v3 ViT-L/16 on ImageNet-1k, end to end: 100 epochs with DeiT's recipe.

Source: arXiv 2104.02057, section 6.3.
Values: DeiT's defaults (learning rate, weight decay, augmentation, schedule), as the authors used that code. Left out:
DeiT's repeated augmentation, which mmpretrain's reproduction (83.0 for ViT-B) does without.
Published: top-1 84.1; not re-run here.
Hardware: one node, 8 GPUs x 128 images.
Launch: tools/dist_train.sh configs/benchmarks/finetune/vit-large_imagenet.py 8 --pretrained CHECKPOINT
"""

_base_ = [
    '../../_base_/models/finetune_vit.py',
    '../../_base_/datasets/imagenet_finetune.py',
    '../../_base_/schedules/adamw_finetune.py',
    '../../_base_/default_runtime.py',
]
model = dict(
    backbone=dict(arch='large', drop_path_rate=0.5),
    head=dict(in_channels=1024),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
train_cfg = dict(max_epochs=100)
