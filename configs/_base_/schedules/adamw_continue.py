"""AdamW for a backbone that is trained already: a small learning rate, less for early layers, heads first.

The learning rate is for 256 images and for the heads; the last block has 0.75 of it, each one before 0.75 of the next.
Biases and norms are not decayed. A leaf adds ``FreezeBackboneHook``, with which the backbone waits for its new heads.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    paramwise_cfg=dict(layer_decay_rate=0.75, norm_decay_mult=0.0, flat_decay_mult=0.0),
)
auto_scale_lr = dict(enable=True, base_batch_size=256)
param_scheduler = dict(type='WarmupCosineLR', warmup_epochs=5, by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=50)
