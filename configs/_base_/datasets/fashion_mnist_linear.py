"""Fashion-MNIST with labels for linear evaluation: random resized crop and flip; tested on the whole image."""

data_preprocessor = dict(
    type='LabelledPreprocessor',
    mean=[72.94, 72.94, 72.94],
    std=[90.02, 90.02, 90.02],
    views=[dict(flip_prob=0.5)],
)

train_dataloader = dict(
    batch_size=256,
    num_workers=0,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='mocox.collate_views'),
    dataset=dict(
        type='FashionMNISTImages',
        data_root='/usr/share/datasets/fashion-mnist',
        split='train',
        with_labels=True,
        crops=dict(type='RandomResizedCrops', size=28, scale=(0.4, 1.0), num_views=1),
    ),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    sampler=dict(type='EpochSampler', shuffle=False, round_up=True),
    collate_fn=dict(type='mocox.collate_views'),
    dataset=dict(
        type='FashionMNISTImages',
        data_root='/usr/share/datasets/fashion-mnist',
        split='test',
        with_labels=True,
        crops=dict(type='CenterCrop', size=28, resize=28),
    ),
)
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
