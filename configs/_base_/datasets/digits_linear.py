"""The digits that ``tools/demo.py`` writes as files, with labels: 1,437 to train on, 360 to test; no augmentation."""

data_preprocessor = dict(type='LabelledPreprocessor', mean=[77.87, 77.87, 77.87], std=[95.89, 95.89, 95.89])

train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='mocox.collate_views'),
    dataset=dict(
        type='ImageFiles',
        data_root='data/digits',
        data_prefix='train',
        with_labels=True,
        crops=dict(type='CenterCrop', size=16, resize=16),
    ),
)
val_dataloader = dict(
    batch_size=360,
    num_workers=0,
    sampler=dict(type='EpochSampler', shuffle=False, round_up=True),
    collate_fn=dict(type='mocox.collate_views'),
    dataset=dict(
        type='ImageFiles',
        data_root='data/digits',
        data_prefix='test',
        with_labels=True,
        crops=dict(type='CenterCrop', size=16, resize=16),
    ),
)
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
