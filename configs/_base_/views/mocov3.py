"""The two views of MoCo v3 (arXiv 2104.02057; BYOL's augmentation, arXiv 2006.07733, Table 6).

Everything after the crop, in the published order; where it runs, ``photometric`` says. The crops belong to the dataset.
MMEngine hands a top-level ``data_preprocessor`` to the model.
"""

data_preprocessor = dict(
    type='ViewsPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    views=[
        dict(
            color_jitter=dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1),
            color_jitter_prob=0.8,
            grayscale_prob=0.2,
            blur_prob=1.0,
            blur_sigma=(0.1, 2.0),
            solarize_prob=0.0,
            flip_prob=0.5,
        ),
        dict(
            color_jitter=dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1),
            color_jitter_prob=0.8,
            grayscale_prob=0.2,
            blur_prob=0.1,
            blur_sigma=(0.1, 2.0),
            solarize_prob=0.2,
            flip_prob=0.5,
        ),
    ],
)
