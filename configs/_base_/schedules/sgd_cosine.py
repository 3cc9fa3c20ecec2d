"""SGD with half a cosine without warm-up, constant within an epoch: the official schedule of MoCo v2.

A leaf adds ``max_epochs``. The learning rate belongs to the published batch of 256; ``--auto-scale-lr`` adapts it to
another one.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.03, momentum=0.9, weight_decay=1e-4),
)
auto_scale_lr = dict(enable=False, base_batch_size=256)
param_scheduler = dict(type='WarmupCosineLR', warmup_epochs=0, by_epoch=True, convert_to_iter_based=False)
train_cfg = dict(type='EpochBasedTrainLoop')
