"""Images in an LMDB (``tools/make_lmdb.py DIR FILE.lmdb``), no labels. ``--data-root FILE.lmdb``; ``mocox[lmdb]``."""

train_dataloader = dict(
    batch_size=128,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='EpochSampler', shuffle=True),
    collate_fn=dict(type='mocox.collate_views'),
    dataset=dict(
        type='LMDBImages',
        data_root='data/custom.lmdb',
        crops=dict(type='RandomResizedCrops', size=224, scale=(0.08, 1.0), num_views=2),
    ),
)
