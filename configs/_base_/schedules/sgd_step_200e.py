"""SGD for 200 epochs, the learning rate divided by 10 after 120 and 160: the official schedule of MoCo v1.

The learning rate belongs to the published batch of 256; ``--auto-scale-lr`` adapts it to another one.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.03, momentum=0.9, weight_decay=1e-4),
)
auto_scale_lr = dict(enable=False, base_batch_size=256)
param_scheduler = dict(type='MultiStepLR', milestones=[120, 160], gamma=0.1, by_epoch=True)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200)
