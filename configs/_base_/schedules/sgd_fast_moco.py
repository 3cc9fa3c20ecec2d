"""SGD with one epoch of warm-up from a quarter of the learning rate: the official schedule of Fast-MoCo.

A leaf adds ``max_epochs``. The predictor's learning rate stays at its peak, as in the official code. The learning rate
belongs to the published batch of 512; ``--auto-scale-lr`` adapts it to another one.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={'head.predictor': dict(fix_lr=True)}),
    clip_grad=dict(max_norm=1.0),
)
auto_scale_lr = dict(enable=False, base_batch_size=512)
param_scheduler = dict(
    type='WarmupCosineLR',
    warmup_epochs=1,
    warmup_start_ratio=0.25,
    by_epoch=True,
    convert_to_iter_based=True,
)
train_cfg = dict(type='EpochBasedTrainLoop')
