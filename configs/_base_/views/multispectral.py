"""Two views of Sentinel-2 images, 13 bands, drawn from one law.

MoCo v2's augmentation (arXiv 2003.04297) as SSL4EO-S12 (arXiv 2211.07044) has it for bands, brightness and contrast in
place of a colour jitter and the mean of the bands for gray, with all orientations and dropped bands. Mean and standard
deviation are those that its code gives for top-of-atmosphere reflectance times 10,000 (L1C), here as levels of
``value_range=(0, 10000)``; ``tools/doctor.py`` measures yours. Products from 2022 on are 1,000 higher:
``value_range=(1000, 11000)``.
"""

mean = [1605.6, 1390.8, 1314.9, 1363.5, 1549.4, 2091.7, 2371.7, 2299.9, 2560.3, 830.1, 22.1, 2177.1, 1524.1]
std = [786.8, 850.3, 875.1, 1138.8, 1122.2, 1161.6, 1274.4, 1248.4, 1345.5, 577.3, 51.2, 1336.1, 1136.5]
data_preprocessor = dict(
    type='ViewsPreprocessor',
    mean=[255 / 10000 * value for value in mean],
    std=[255 / 10000 * value for value in std],
    views=[
        dict(
            channel_jitter=dict(brightness=0.4, contrast=0.4),
            channel_jitter_prob=0.8,
            grayscale_prob=0.2,
            grayscale_weights='mean',
            channel_drop_prob=0.2,
            channel_drop=(1, 3),
            blur_prob=0.5,
            blur_sigma=(0.1, 2.0),
            flip_prob=0.5,
            vertical_flip_prob=0.5,
            quarter_turn_prob=0.5,
        ),
    ]
    * 2,
)
del mean, std
