"""Configs small enough to be benchmarked in a test."""

from pathlib import Path

ROOT = Path(__file__).parents[3]
TINY_VIT = {
    'model.backbone.arch': dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64, _delete_=True),
    'model.backbone.patch_size': 8,
    'model.neck.in_channels': 32,
    'model.neck.hid_channels': 32,
    'model.neck.out_channels': 16,
    'model.head.predictor.in_channels': 16,
    'model.head.predictor.hid_channels': 32,
    'model.head.predictor.out_channels': 16,
}
NARROW_HEADS = {'model.neck.hid_channels': 64, 'model.head.predictor.hid_channels': 64}
MEDIUM_VIT = {
    **NARROW_HEADS,
    'model.backbone.arch': dict(embed_dims=192, num_layers=6, num_heads=3, feedforward_channels=768, _delete_=True),
    'model.neck.in_channels': 192,
}
TINY_RESNET = {
    'model.backbone.depth': 18,
    'model.neck.in_channels': 512,
    'model.neck.hid_channels': 32,
    'model.head.predictor.hid_channels': 32,
}
VIT = str(ROOT / 'configs/mocov3/vit-small.py')
RESNET = str(ROOT / 'configs/mocov3/resnet50_100e.py')
V2 = str(ROOT / 'configs/mocov2/resnet50_200e.py')
