"""SGD for 100 epochs, 5 of them warm-up: official linear evaluation of MoBY, whose learning rate is for 512 images.

Nesterov momentum, and a warm-up in place of the cosine's first part, as in the training code of Swin.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=1.0, momentum=0.9, nesterov=True, weight_decay=0.0),
    clip_grad=dict(max_norm=5.0),
)
auto_scale_lr = dict(enable=True, base_batch_size=512)
param_scheduler = dict(
    type='WarmupCosineLR',
    warmup_epochs=5,
    warmup_start_ratio=5e-7,
    warmup_prefix=False,
    eta_min=5e-6,
    by_epoch=True,
    convert_to_iter_based=True,
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100)
val_cfg = dict()
test_cfg = dict()
