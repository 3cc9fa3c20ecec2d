"""ImageNet-1k without labels: two random resized crops per image, area 8 % to 100 % (ResNets: ``scale=(0.2, 1.0)``)."""

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
        crops=dict(type='RandomResizedCrops', size=224, scale=(0.08, 1.0), num_views=2),
    ),
)
