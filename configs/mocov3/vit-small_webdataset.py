"""MoCo v3, ViT-S/16, 300 epochs on ImageNet-1k in WebDataset tar shards, in a folder or an object store.

Source: the recipe of vit-small.py, one node; only the data set differs. DIR_OR_URL may be s3://BUCKET/FOLDER, with
filecache:: in front to keep shards on the local disk; their names are train_dataloader.dataset.shards.
Published: as for vit-small.py; not re-run here.
Hardware: one node, 8 GPUs x 128 images.
Launch: tools/dist_train.sh configs/mocov3/vit-small_webdataset.py 8 --data-root DIR_OR_URL
"""

_base_ = [
    '../_base_/models/mocov3_vit.py',
    '../_base_/datasets/webdataset.py',
    '../_base_/views/mocov3.py',
    '../_base_/schedules/adamw_300e.py',
    '../_base_/default_runtime.py',
]
model = dict(backbone=dict(arch='small'), neck=dict(in_channels=384))
train_dataloader = dict(batch_size=128)
