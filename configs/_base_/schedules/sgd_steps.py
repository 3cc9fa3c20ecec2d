"""SGD with a learning rate that falls in steps, for fine-tuning ResNets and for linear evaluation on other data.

A leaf adds ``lr``, ``weight_decay``, ``milestones`` and ``max_epochs``. The learning rate belongs to the published
batch of 256; ``--auto-scale-lr`` adapts it to another one.
"""

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', momentum=0.9))
auto_scale_lr = dict(enable=False, base_batch_size=256)
param_scheduler = dict(type='MultiStepLR', gamma=0.1, by_epoch=True)
train_cfg = dict(type='EpochBasedTrainLoop')
val_cfg = dict()
test_cfg = dict()
