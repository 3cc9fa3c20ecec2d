"""The two views of MoCo v1 (arXiv 1911.05722), drawn from one law, in the order of the official code.

Grayscale comes before the colour jitter, which every image gets, and there is no blur. The crops belong to the dataset.
"""

data_preprocessor = dict(
    type='ViewsPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    views=[
        dict(
            grayscale_prob=0.2,
            color_jitter=dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4),
            color_jitter_prob=1.0,
            flip_prob=0.5,
            order=('grayscale', 'color_jitter', 'blur', 'solarize', 'flip'),
        ),
    ]
    * 2,
)
