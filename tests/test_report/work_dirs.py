"""Work dirs as a training with monitors leaves them, without the training."""

import json
import math
from pathlib import Path

import numpy as np

CONFIG = """
model = dict(type='MoCoV3', base_momentum=0.99,
    backbone=dict(type='MoCoViT', arch='small', patch_size=16, stem='patch', stop_grad_conv1=True),
    neck=dict(type='NonLinearNeck', num_layers=3, in_channels=384, hid_channels=4096, out_channels=256),
    head=dict(type='ContrastiveHead', temperature=0.2))
train_dataloader = dict(batch_size=256, dataset=dict(type='ImageFiles', data_root='data/imagenet',
    crops=dict(type='RandomResizedCrops', size=224, scale=(0.08, 1.0))))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.5e-4, weight_decay=0.1))
auto_scale_lr = dict(enable=True, base_batch_size=256)
param_scheduler = dict(type='WarmupCosineLR', warmup_epochs=4, convert_to_iter_based=True)
train_cfg = dict(max_epochs=40)
custom_hooks = [dict(type='MomentumUpdateHook')]
"""
CHANCE, FLOOR = 0.8 * math.log(256), 0.8 * math.log(1 + 255 * math.exp(-(1 + 1 / 255) / 0.2))
LAYERS = ('patch_embed', *(f'blocks.{i}' for i in range(12)), 'neck', 'head')
STAMP = '20261122_120000'


def write_work_dir(
    folder: Path, monitored: bool = True, lines: int = 200, speed: float = 1.0, seed: int = 0, state: str = 'learning'
) -> Path:
    """Writes a log of 40 epochs of 100 steps, a line every 20; ``lines`` of it."""
    rng = np.random.default_rng(seed)
    logged = []
    for number in range(1, lines + 1):
        done = number / 200
        progress = 100 * (0.85 * (1 - math.exp(-4 * speed * done)) + 0.01 * rng.normal())
        line = dict(lr=1.5e-4 * min(1, done * 10) * (1 + math.cos(math.pi * done)) / 2, momentum=1 - 0.01 * (1 - done))
        line |= dict(loss=CHANCE - progress / 100 * (CHANCE - FLOOR), time=0.5 + 0.05 * rng.random(), data_time=0.04)
        if monitored:
            line |= dict(chance=CHANCE, floor=FLOOR, progress=progress, contrastive_top1=progress, memory=9000)
            line |= dict(knn_online=10 + 0.6 * progress, knn_offline=8 + 0.6 * (100 * done // 10 * 10))
            line |= dict(positive_cosine=0.2 + progress / 150, negative_cosine=0.3 - progress / 500, num_keys=256)
            line |= dict(feature_std=0.8 + 0.1 * rng.random(), effective_rank=20 + progress)
            line |= dict(alignment=1.2 - progress / 100, uniformity=-1 - progress / 50)
            spike = 30 if number in (60, 61, 130) else 1
            for depth, layer in enumerate(LAYERS):
                first = spike if depth == 0 else 1 + spike / 30
                line[f'grad_norm/{layer}'] = first * math.exp(-0.1 * depth) * (1 + 0.2 * rng.random())
            line |= dict(grad_norm=spike * (2 + rng.random()), images_per_second=500.0, data_wait=8.0)
        iteration = 20 * number
        logged.append(dict(line, epoch=(iteration - 1) // 100 + 1, iter=iteration, step=iteration))
    part = folder / STAMP / 'vis_data'
    part.mkdir(parents=True)
    (part / 'scalars.json').write_text(''.join(json.dumps(line) + '\n' for line in logged))
    (part / 'config.py').write_text(CONFIG)
    (part.parent / f'{STAMP}.log').write_text(
        '2026/11/22 12:00:00 - mmengine - INFO - hello\n2026/11/22 12:30:00 - mmengine - WARNING - unreadable image\n'
    )
    if monitored:
        (part / 'events.jsonl').write_text(''.join(json.dumps(event) + '\n' for event in _events(state)))
    return folder


def _events(state: str) -> list[dict]:
    spike = dict(kind='spike', state=None, message='the gradient of patch_embed is 30 times its median', causes=[])
    return [
        dict(iter=20, epoch=1, kind='state', state='at chance', message='at chance', evidence={}, causes=['warm-up']),
        dict(iter=300, epoch=3, kind='state', state=state, message='the loss has left chance',
             evidence=dict(loss=3.9, progress=12.5), causes=['the learning rate']),
        dict(spike, iter=1200, epoch=12, evidence=dict(patch_embed=30.5)),
        dict(spike, iter=2600, epoch=26, evidence=dict(patch_embed=31.5)),
    ]  # fmt: skip
