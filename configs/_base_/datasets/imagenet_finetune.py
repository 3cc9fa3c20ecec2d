"""ImageNet-1k with DeiT's augmentation: bicubic crops, flip, RandAugment (2 of 15, level 9), random erasing 0.25.

Mixup and cutmix belong to ``model.train_cfg``. Means and fills of the transforms are in their channel order, BGR.
"""

data_preprocessor = dict(
    type='LabelledPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    views=[dict(flip_prob=0.5)],
    num_classes=1000,
)

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='mocox.collate_views'),
    dataset=dict(
        type='ImageFiles',
        data_root='data/imagenet',
        data_prefix='train',
        with_labels=True,
        crops=dict(
            type='TransformedCrops',
            crops=dict(
                type='RandomResizedCrops', size=224, scale=(0.08, 1.0), num_views=1, interpolation='bicubic'
            ),
            transforms=[
                dict(
                    type='mmpretrain.RandAugment',
                    _scope_='mmpretrain',
                    policies='timm_increasing',
                    num_policies=2,
                    total_level=10,
                    magnitude_level=9,
                    magnitude_std=0.5,
                    hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
                ),
                dict(
                    type='mmpretrain.RandomErasing',
                    erase_prob=0.25,
                    mode='rand',
                    min_area_ratio=0.02,
                    max_area_ratio=1 / 3,
                    fill_color=[103.53, 116.28, 123.675],
                    fill_std=[57.375, 57.12, 58.395],
                ),
            ],
        ),
    ),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='EpochSampler', shuffle=False, round_up=True),
    collate_fn=dict(type='mocox.collate_views'),
    dataset=dict(
        type='ImageFiles',
        data_root='data/imagenet',
        data_prefix='val',
        with_labels=True,
        crops=dict(type='CenterCrop', size=224, resize=256, interpolation='bicubic'),
    ),
)
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
