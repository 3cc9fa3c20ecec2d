"""ImageNet-1k in WebDataset tar shards, no labels. ``--data-root FOLDER_OR_URL``; needs ``mocox[webdataset]``."""

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='mocox.collate_views'),
    dataset=dict(
        type='WebDatasetImages',
        data_root='data/imagenet-shards',
        shards='train-{0000..0146}.tar',
        crops=dict(type='RandomResizedCrops', size=224, scale=(0.08, 1.0), num_views=2),
    ),
)
