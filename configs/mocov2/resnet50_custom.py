"""MoCo v2, ResNet-50, 200 epochs on your own images: any folder, nested or flat, no labels.

Source: the values of arXiv 2003.04297 for fewer images: a queue of 4,096 keys, which should be shorter than the folder
is long, and momentum 0.99, so that the keys lag 100 steps behind and not 1,000. ``SplitBN`` normalises groups of 32.
Published: no number, and none is claimed here.
Hardware: one GPU, 64 images.
Launch: python tools/train.py configs/mocov2/resnet50_custom.py --data-root DIR
"""

_base_ = [
    '../_base_/models/moco_resnet50.py',
    '../_base_/datasets/custom.py',
    '../_base_/views/mocov2.py',
    '../_base_/schedules/sgd_cosine.py',
    '../_base_/default_runtime.py',
]
model = dict(
    queue_len=4096,
    base_momentum=0.99,
    neck=dict(type='mmpretrain.MoCoV2Neck', in_channels=2048, hid_channels=2048, out_channels=128),
    head=dict(temperature=0.2),
)
auto_scale_lr = dict(enable=True)
train_cfg = dict(max_epochs=200)
train_dataloader = dict(batch_size=64, dataset=dict(crops=dict(scale=(0.2, 1.0))))
