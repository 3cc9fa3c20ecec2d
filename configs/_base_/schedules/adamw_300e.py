"""AdamW for 300 epochs, 40 of them warm-up: the paper's schedule for vision transformers.

One parameter group: the weight decay also acts on biases, norms and the class token, as in the official code.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1.5e-4, betas=(0.9, 0.999), weight_decay=0.1, fused=True),
)
auto_scale_lr = dict(enable=True, base_batch_size=256)
param_scheduler = dict(type='WarmupCosineLR', warmup_epochs=40, by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300)
