"""The two views of MoCo v3 for 32-pixel images: as for ImageNet, without blur, which would erase the objects.

The views differ in solarisation only. SimCLR leaves blur out on CIFAR-10 too (arXiv 2002.05709, appendix B.9).
"""

data_preprocessor = dict(
    type='ViewsPreprocessor',
    mean=[125.307, 122.961, 113.8575],
    std=[51.5865, 50.847, 51.255],
    views=[
        dict(
            color_jitter=dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1),
            color_jitter_prob=0.8,
            grayscale_prob=0.2,
            flip_prob=0.5,
        ),
        dict(
            color_jitter=dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1),
            color_jitter_prob=0.8,
            grayscale_prob=0.2,
            solarize_prob=0.2,
            flip_prob=0.5,
        ),
    ],
)
