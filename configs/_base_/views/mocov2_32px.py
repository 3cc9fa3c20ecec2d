"""The two views of MoCo v2 for 32-pixel images: as for ImageNet, without blur, which would erase the objects."""

data_preprocessor = dict(
    type='ViewsPreprocessor',
    mean=[125.307, 122.961, 113.8575],
    std=[51.5865, 50.847, 51.255],
    views=[
        dict(
            color_jitter=dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
            color_jitter_prob=0.8,
            grayscale_prob=0.2,
            flip_prob=0.5,
        ),
    ]
    * 2,
)
