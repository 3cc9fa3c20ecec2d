"""LARS with 10 epochs of warm-up: the official schedule for ResNets.

A leaf adds ``lr``, ``weight_decay`` and ``max_epochs``. ``LARS`` neither decays nor scales tensors of one dimension.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='LARS', momentum=0.9, trust_coefficient=0.001),
)
auto_scale_lr = dict(enable=True, base_batch_size=256)
param_scheduler = dict(type='WarmupCosineLR', warmup_epochs=10, by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(type='EpochBasedTrainLoop')
