"""The images of a smaller data set at 224 px for fine-tuning: crops of 5 % to 100 %, flip; tested on 224 of 256.

A leaf adds the data sets and ``data_preprocessor.num_classes``.
"""

data_preprocessor = dict(
    type='LabelledPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    views=[dict(flip_prob=0.5)],
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
        with_labels=True,
        crops=dict(type='RandomResizedCrops', size=224, scale=(0.05, 1.0), num_views=1),
    ),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='EpochSampler', shuffle=False, round_up=True),
    collate_fn=dict(type='mocox.collate_views'),
    dataset=dict(with_labels=True, crops=dict(type='CenterCrop', size=224, resize=256)),
)
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
