"""Runs small enough to go wrong in a second: 64 images of four kinds, 8 px, a transformer of two blocks."""

import copy
import json
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

import mocox.engine  # noqa: F401
from mocox.datasets import ViewsDataset
from mocox.registry import DATASETS, MODELS
from tests.support.small_models import VIT, config

NUM_IMAGES, SIDE = 64, 8


@DATASETS.register_module(force=True)
class Patterns(ViewsDataset):
    """Each class is a colour pattern, each image a noisy one of its class."""

    def __init__(self, crops, seed: int = 0) -> None:
        super().__init__(crops, seed=seed)
        rng = np.random.default_rng(0)
        self.labels = np.arange(NUM_IMAGES) % 4
        kinds = rng.integers(0, 256, (4, SIDE, SIDE, 3))
        noise = rng.normal(0, 40, (NUM_IMAGES, SIDE, SIDE, 3))
        self.images = np.clip(kinds[self.labels] + noise, 0, 255).astype(np.uint8)

    def __len__(self) -> int:
        return NUM_IMAGES

    def load(self, index: int):
        return self.images[index], None


@MODELS.register_module(force=True)
class NoNegatives(nn.Module):
    """Only pulls queries to their keys."""

    def forward(self, logits, labels):
        return -logits.gather(1, labels[:, None]).mean()


PREPROCESSOR = dict(type='ViewsPreprocessor', mean=[127.0] * 3, std=[64.0] * 3, views=[dict(), dict()])


def model(width: int = 32, **settings) -> dict:
    """Wide enough to learn something."""
    cfg = config(VIT, data_preprocessor=PREPROCESSOR, **settings)
    cfg['neck'].update(out_channels=width, hid_channels=width)
    cfg['head']['predictor'].update(in_channels=width, out_channels=width, hid_channels=width)
    return copy.deepcopy(cfg)


def run_config(work_dir: Path, epochs: int = 4, lr: float = 0.02, hooks: dict | None = None, **kwargs) -> dict:
    """Config of a run of 4 steps an epoch; ``hooks`` change the monitors' settings."""
    hooks = hooks or {}
    return {
        **dict(
            model=config(VIT, data_preprocessor=PREPROCESSOR),
            work_dir=str(work_dir),
            train_dataloader=dict(
                dataset=dict(type='Patterns', crops=dict(type='RandomResizedCrops', size=SIDE, scale=(0.7, 1.0))),
                batch_size=16, num_workers=0, sampler=dict(type='EpochSampler', shuffle=True),
                collate_fn=dict(type='mocox.collate_views'),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=lr)),
            custom_hooks=[dict(type='MomentumUpdateHook')],
            default_hooks={
                name: hook
                for name, hook in dict(
                    logger=dict(type='LoggerHook', interval=2),
                    checkpoint=dict(type='CheckpointHook', interval=1000, save_last=False),
                    epoch_seed=dict(type='EpochSeedHook'),
                    stability=hooks.get('stability', dict(type='StabilityHook', interval=2)),
                    monitor=hooks.get('monitor', dict(type='MonitorHook', interval=2)),
                ).items()
                if hook
            },
            default_scope='mocox', log_level='ERROR', randomness=dict(seed=0),
            experiment_name=f'{work_dir.parent.name}_{work_dir.name}',
        ),
        **kwargs,
    }  # fmt: skip


def train(work_dir: Path, extra: list[Hook] | None = None, **kwargs) -> Runner:
    """Runs it, with hooks of the test's own besides."""
    runner = Runner.from_cfg(Config(run_config(work_dir, **kwargs)))
    for hook in extra or []:
        runner.register_hook(hook)
    runner.train()
    return runner


def events(work_dir: Path, kind: str | None = None) -> list[dict]:
    """What the run wrote, in order; of one kind if asked."""
    files = sorted(work_dir.glob('*/vis_data/events.jsonl'))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [event for event in lines if kind in (None, event['kind'])]


def scalars(work_dir: Path) -> list[dict]:
    """MMEngine's log."""
    (file,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in file.read_text().splitlines()]


class Spoil(Hook):
    """Puts a value into the gradient of one layer at some iterations, between backward pass and update.

    Args:
        at: The iterations.
        factor: What the gradient is multiplied by.
        layer: Whose parameters.
    """

    priority = 'LOWEST'

    def __init__(self, at: set[int], factor: float, layer: str = 'blocks.0') -> None:
        self.at, self.factor, self.layer = at, factor, layer

    def before_train(self, runner: Runner) -> None:
        self.params = [p for name, p in runner.model.named_parameters() if f'{self.layer}.' in name and p.requires_grad]
        self.handles = [p.register_hook(self.spoil) for p in self.params]
        self.runner = runner

    def spoil(self, grad: torch.Tensor) -> torch.Tensor:
        return grad * self.factor if self.runner.iter in self.at else grad


class SpoilImages(Hook):
    """Makes the views of some iterations not a number, after the augmentation."""

    def __init__(self, at: set[int]) -> None:
        self.at = at

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        preprocessor = runner.model.data_preprocessor
        preprocessor.mean.fill_(float('nan') if runner.iter in self.at else 127.0)
