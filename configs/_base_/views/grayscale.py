"""The two views of MoCo v3 (arXiv 2104.02057) for one channel: X-rays, electron microscopes, thermal cameras.

Brightness and contrast are left of the colour jitter, and the noise of a sensor is added. Mean and standard deviation
are ImageNet's, weighted as luma is; ``tools/doctor.py`` measures yours.
"""

data_preprocessor = dict(
    type='ViewsPreprocessor',
    mean=[117.0],
    std=[57.5],
    views=[
        dict(
            channel_jitter=dict(brightness=0.4, contrast=0.4),
            channel_jitter_prob=0.8,
            blur_prob=1.0,
            blur_sigma=(0.1, 2.0),
            gaussian_noise_prob=0.2,
            gaussian_noise=(1.0, 8.0),
            flip_prob=0.5,
        ),
        dict(
            channel_jitter=dict(brightness=0.4, contrast=0.4),
            channel_jitter_prob=0.8,
            blur_prob=0.1,
            blur_sigma=(0.1, 2.0),
            solarize_prob=0.2,
            gaussian_noise_prob=0.2,
            gaussian_noise=(1.0, 8.0),
            flip_prob=0.5,
        ),
    ],
)
