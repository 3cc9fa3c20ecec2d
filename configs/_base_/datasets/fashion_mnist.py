"""Fashion-MNIST (training split) without labels: two random resized crops of 28 pixels, and brightness and contrast.

A picture has no colour. Pixels are shown as red, green and blue, so that any backbone takes them. Images this small are
cut by the training process itself.
"""

data_preprocessor = dict(
    type='ViewsPreprocessor',
    mean=[72.94, 72.94, 72.94],
    std=[90.02, 90.02, 90.02],
    views=[dict(color_jitter=dict(brightness=0.4, contrast=0.4), color_jitter_prob=0.8, flip_prob=0.5)] * 2,
)

train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='mocox.collate_views'),
    dataset=dict(
        type='FashionMNISTImages',
        data_root='/usr/share/datasets/fashion-mnist',
        split='train',
        crops=dict(type='RandomResizedCrops', size=28, scale=(0.4, 1.0), num_views=2),
    ),
)
