"""The two views of MoCo v2 (arXiv 2003.04297), drawn from one law, in the order of the official code.

The crops belong to the dataset.
"""

data_preprocessor = dict(
    type='ViewsPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    views=[
        dict(
            color_jitter=dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
            color_jitter_prob=0.8,
            grayscale_prob=0.2,
            blur_prob=0.5,
            blur_sigma=(0.1, 2.0),
            flip_prob=0.5,
        ),
    ]
    * 2,
)
