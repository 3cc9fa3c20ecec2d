"""CIFAR-10 (training split) without labels: two random resized crops of 32 pixels, area 20 % to 100 %."""

train_dataloader = dict(
    batch_size=256,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='mocox.collate_views'),
    dataset=dict(
        type='CIFAR10Images',
        data_root='data/cifar10',
        split='train',
        crops=dict(type='RandomResizedCrops', size=32, scale=(0.2, 1.0), num_views=2),
    ),
)
