"""Two views of tissue stained with haematoxylin and eosin, which differ in blur only.

After MoCo v3's (arXiv 2104.02057): stains are varied ("light" in arXiv 1902.06543) and colours a little, and tissue
has no upright orientation (arXiv 2212.04690, whose published models also give this mean and standard deviation).
Solarisation is left out: it makes stains that do not exist.
"""

data_preprocessor = dict(
    type='ViewsPreprocessor',
    mean=[179.32, 136.70, 168.55],
    std=[55.38, 66.51, 52.84],
    views=[
        dict(
            stain_jitter=dict(scale=0.05, shift=0.05),
            stain_jitter_prob=0.8,
            color_jitter=dict(brightness=0.2, contrast=0.2, saturation=0.1, hue=0.05),
            color_jitter_prob=0.8,
            grayscale_prob=0.2,
            blur_prob=blur_prob,
            blur_sigma=(0.1, 2.0),
            flip_prob=0.5,
            vertical_flip_prob=0.5,
            quarter_turn_prob=0.5,
        )
        for blur_prob in (1.0, 0.1)
    ],
)
