"""MoCo v2, a ResNet-18 of a quarter of the width, 60 epochs on the 1,437 handwritten digits of the demo.

Source: no paper's row. MoCo v2 made small, with two changes: temperature 0.1, and a warm-up. Until the queue is full of
real keys, pulling all of them to one point is a solution, and with a large learning rate a fresh network takes it.
Published: no number. Measured here (AMD EPYC, 2 cores, seed 0): 20 nearest neighbours 98.1 %, with a random backbone
92.8 %; see docs/mocov2_digits.md.
Hardware: 2 CPU cores, 128 images; 2 minutes.
Launch: python tools/demo.py, which also writes data/digits; then
    python tools/train.py configs/mocov2/resnet18_digits.py
"""

_base_ = [
    '../_base_/models/moco_resnet50.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/sgd_cosine.py',
    '../_base_/default_runtime.py',
]
model = dict(
    queue_len=1024,
    feat_dim=64,
    base_momentum=0.99,
    backbone=dict(type='mmpretrain.ResNet_CIFAR', depth=18, stem_channels=16, base_channels=16),
    neck=dict(type='mmpretrain.MoCoV2Neck', in_channels=128, hid_channels=128, out_channels=64),
    head=dict(temperature=0.1),
)
auto_scale_lr = dict(base_batch_size=128)
param_scheduler = dict(warmup_epochs=5, convert_to_iter_based=True)
train_cfg = dict(max_epochs=60)
