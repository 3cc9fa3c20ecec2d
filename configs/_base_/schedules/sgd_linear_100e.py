"""SGD for 100 epochs, the learning rate divided by 10 after 60 and 80: official linear evaluation of MoCo v1 and v2.

The learning rate belongs to the published batch of 256; ``--auto-scale-lr`` adapts it to another one.
"""

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=30.0, momentum=0.9, weight_decay=0.0))
auto_scale_lr = dict(enable=False, base_batch_size=256)
param_scheduler = dict(type='MultiStepLR', milestones=[60, 80], gamma=0.1, by_epoch=True)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100)
val_cfg = dict()
test_cfg = dict()
