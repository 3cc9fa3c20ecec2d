"""AdamW with DeiT's schedule: half a cosine down to 1e-5, whose first 5 epochs are a warm-up from a thousandth.

As in DeiT's script the learning rate is constant within an epoch and one epoch late; for one that moves in every
iteration: ``--cfg-options param_scheduler.convert_to_iter_based=True param_scheduler.delay_epochs=0``.
The learning rate is for 512 images. Biases, norms, class token and positions are not decayed. A leaf adds
``max_epochs``. No layer decay, as published; ``--cfg-options
optim_wrapper.constructor=mmpretrain.LearningRateDecayOptimWrapperConstructor
optim_wrapper.paramwise_cfg.layer_decay_rate=0.75`` switches it on.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={'.cls_token': dict(decay_mult=0.0), '.pos_embed': dict(decay_mult=0.0)},
    ),
)
auto_scale_lr = dict(enable=True, base_batch_size=512)
param_scheduler = dict(
    type='WarmupCosineLR',
    warmup_epochs=5,
    warmup_start_ratio=1e-3,
    warmup_prefix=False,
    delay_epochs=1,
    eta_min=1e-5,
    by_epoch=True,
)
train_cfg = dict(type='EpochBasedTrainLoop')
val_cfg = dict()
test_cfg = dict()
