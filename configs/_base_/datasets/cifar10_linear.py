"""CIFAR-10 with labels for linear evaluation: random resized crop and flip; tested on the whole image."""

data_preprocessor = dict(
    type='LabelledPreprocessor',
    mean=[125.307, 122.961, 113.8575],
    std=[51.5865, 50.847, 51.255],
    views=[dict(flip_prob=0.5)],
)

train_dataloader = dict(
    batch_size=256,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='mocox.collate_views'),
    dataset=dict(
        type='CIFAR10Images',
        data_root='data/cifar10',
        split='train',
        with_labels=True,
        crops=dict(type='RandomResizedCrops', size=32, scale=(0.2, 1.0), num_views=1),
    ),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='EpochSampler', shuffle=False, round_up=True),
    collate_fn=dict(type='mocox.collate_views'),
    dataset=dict(
        type='CIFAR10Images',
        data_root='data/cifar10',
        split='test',
        with_labels=True,
        crops=dict(type='CenterCrop', size=32, resize=32),
    ),
)
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
