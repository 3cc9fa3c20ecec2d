"""The 1,437 training digits that ``tools/demo.py`` writes as files, two distorted views of each; no labels.

A digit has no colour, and neither its mirror image nor a part of it is that digit: so no colours, flips or crops, but
rotation, shift, zoom and shear. Files this small are read by the training process itself.
"""

data_preprocessor = dict(
    type='ViewsPreprocessor',
    mean=[77.87, 77.87, 77.87],
    std=[95.89, 95.89, 95.89],
    views=[
        dict(color_jitter=dict(brightness=0.4, contrast=0.4)),
        dict(color_jitter=dict(brightness=0.4, contrast=0.4)),
    ],
)

train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='mocox.collate_views'),
    dataset=dict(
        type='ImageFiles',
        data_root='data/digits',
        data_prefix='train',
        crops=dict(
            type='RandomAffineCrops',
            size=16,
            degrees=15,
            translate=(0.1, 0.1),
            scale=(0.8, 1.2),
            shear=10,
            num_views=2,
        ),
    ),
)
