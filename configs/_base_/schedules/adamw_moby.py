"""AdamW for 300 epochs, 5 of them warm-up: the official schedule of MoBY, whose learning rate is for 512 images.

No weight decay on norms and biases, as in the training code of Swin. The warm-up starts at 5e-7 and takes the place of
the cosine's first part.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
auto_scale_lr = dict(enable=True, base_batch_size=512)
param_scheduler = dict(
    type='WarmupCosineLR',
    warmup_epochs=5,
    warmup_start_ratio=5e-4,
    warmup_prefix=False,
    eta_min=5e-6,
    by_epoch=True,
    convert_to_iter_based=True,
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300)
