"""Solar cells with four degrees of defect for linear evaluation: random crop and flip; tested on the whole image."""

data_preprocessor = dict(type='LabelledPreprocessor', mean=[152.3], std=[40.8], views=[dict(flip_prob=0.5)])

train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='mocox.collate_views'),
    dataset=dict(
        type='ELPVImages',
        data_root='data/elpv',
        split='train',
        channels=1,
        with_labels=True,
        crops=dict(type='RandomResizedCrops', size=128, scale=(0.5, 1.0), num_views=1),
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='EpochSampler', shuffle=False, round_up=True),
    collate_fn=dict(type='mocox.collate_views'),
    dataset=dict(
        type='ELPVImages',
        data_root='data/elpv',
        split='test',
        channels=1,
        with_labels=True,
        crops=dict(type='CenterCrop', size=128, resize=128),
    ),
)
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
