"""SGD for 90 epochs, the learning rate constant within an epoch: official linear evaluation. A leaf adds ``lr``."""

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', momentum=0.9, weight_decay=0.0))
auto_scale_lr = dict(enable=True, base_batch_size=256)
param_scheduler = dict(type='WarmupCosineLR', warmup_epochs=0, by_epoch=True, convert_to_iter_based=False)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=90)
val_cfg = dict()
test_cfg = dict()
