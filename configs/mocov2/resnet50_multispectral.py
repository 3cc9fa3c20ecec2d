"""MoCo v2, ResNet-50, 200 epochs on your own images of 13 bands: Sentinel-2, as TIFF or NumPy arrays, no labels.

Source: resnet50_custom.py, which is arXiv 2003.04297 for fewer images, with the augmentation of SSL4EO-S12 (arXiv
2211.07044). For N other bands set train_dataloader.dataset.channels, model.backbone.in_channels, and mean and std of
data_preprocessor, which tools/doctor.py measures. Pictures show red, green and blue (B4, B3, B2).
Published: no number, and none is claimed here.
Hardware: one GPU, 64 images.
Launch: python tools/train.py configs/mocov2/resnet50_multispectral.py --data-root DIR
"""

_base_ = [
    '../_base_/models/moco_resnet50.py',
    '../_base_/datasets/custom.py',
    '../_base_/views/multispectral.py',
    '../_base_/schedules/sgd_cosine.py',
    '../_base_/default_runtime.py',
]
model = dict(
    queue_len=4096,
    base_momentum=0.99,
    backbone=dict(in_channels=13),
    neck=dict(type='mmpretrain.MoCoV2Neck', in_channels=2048, hid_channels=2048, out_channels=128),
    head=dict(temperature=0.2),
)
auto_scale_lr = dict(enable=True)
train_cfg = dict(max_epochs=200)
train_dataloader = dict(
    batch_size=64, dataset=dict(channels=13, value_range=(0, 10000), crops=dict(scale=(0.2, 1.0)))
)
default_hooks = dict(report=dict(bands=(3, 2, 1)))
