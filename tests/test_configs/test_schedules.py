"""Full schedules as MMEngine runs them from the shipped configs, against the papers' formulas, step for step."""

from math import cos, pi

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mocox.engine import MomentumUpdateHook
from tests.test_configs.shipped import load

ITERS = 4  # iterations per epoch


class Recorder(BaseModel):
    """One weight, and a note of lr and momentum at every iteration."""

    def __init__(self, base_momentum):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.base_momentum = self.momentum = base_momentum
        self.lr, self.momenta, self.updates = [], [], 0

    def forward(self, inputs, data_samples=None, mode='loss'):
        return dict(loss=self.weight.sum())

    def train_step(self, data, optim_wrapper):
        self.lr.append(optim_wrapper.get_lr()['lr'][0])
        self.momenta.append(self.momentum)
        return super().train_step(data, optim_wrapper)

    def update_momentum_encoder(self):
        self.updates += 1


def run(cfg, tmp_path, accumulative_counts=1, iters=ITERS):
    """Train the recorder for the config's whole schedule with its scheduler, optimizer and lr scaling."""
    model = Recorder(cfg.model.get('base_momentum', 0.99))
    batch_size = cfg.train_dataloader.batch_size
    optimizer = cfg.optim_wrapper.optimizer.to_dict()
    runner = Runner(
        model=model,
        work_dir=str(tmp_path),
        train_dataloader=dict(
            batch_size=batch_size,
            dataset=torch.zeros(batch_size * iters),
            sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
            collate_fn=lambda items: dict(inputs=[]),
        ),
        train_cfg=cfg.train_cfg.to_dict(),
        optim_wrapper=dict(type='mmengine.OptimWrapper', optimizer=optimizer, accumulative_counts=accumulative_counts),
        param_scheduler=cfg.param_scheduler.to_dict(),
        auto_scale_lr=cfg.auto_scale_lr.to_dict(),
        custom_hooks=[MomentumUpdateHook()] if 'custom_hooks' in cfg else None,
        default_hooks=dict.fromkeys(['logger', 'checkpoint', 'timer', 'runtime_info', 'sampler_seed']),
        default_scope='mocox',
        experiment_name=tmp_path.name,
        log_level='ERROR',
        cfg=dict(auto_scale_lr=cfg.auto_scale_lr.to_dict()),
    )
    runner.train()
    return model


def published_lr(peak, warmup, epochs, iters):
    """Linear in the fractional epoch e = epoch + i / iters until the warm-up ends, then half a cosine to 0."""
    for epoch in range(epochs):
        for i in range(iters):
            e = epoch + i / iters
            yield peak * e / warmup if e < warmup else peak * 0.5 * (1 + cos(pi * (e - warmup) / (epochs - warmup)))


def published_momentum(m, epochs, iters):
    for epoch in range(epochs):
        for i in range(iters):
            yield 1 - 0.5 * (1 + cos(pi * (epoch + i / iters) / epochs)) * (1 - m)


# name, per-device peak lr of the table (lr per 256 x images per device / 256), warm-up, epochs, momentum
@pytest.mark.parametrize(
    ('name', 'peak', 'warmup', 'epochs', 'm'),
    [
        ('vit-small', 1.5e-4 * 128 / 256, 40, 300, 0.99),
        ('resnet50_100e', 0.6 * 256 / 256, 10, 100, 0.99),
        ('resnet50_1000e', 0.3 * 256 / 256, 10, 1000, 0.996),
    ],
)
def test_pretraining_schedule(name, peak, warmup, epochs, m, tmp_path):
    iters = 2 if epochs == 1000 else ITERS
    model = run(load(f'configs/mocov3/{name}.py'), tmp_path, iters=iters)
    assert len(model.lr) == epochs * iters
    assert model.lr[0] == 0.0
    assert max(model.lr) == model.lr[warmup * iters] == pytest.approx(peak, rel=1e-14)
    assert model.lr == pytest.approx(list(published_lr(peak, warmup, epochs, iters)), rel=1e-9, abs=1e-15 * peak)
    assert model.momenta[0] == pytest.approx(m, rel=1e-15)
    assert model.momenta == pytest.approx(list(published_momentum(m, epochs, iters)), rel=1e-14)
    assert model.updates == epochs * iters


def test_schedule_counts_optimizer_steps_under_accumulation(tmp_path):
    """Both micro-batches of a step see its lr and momentum, and the momentum encoder moves once."""
    model = run(load('configs/mocov3/vit-small.py'), tmp_path, accumulative_counts=2)
    steps = ITERS // 2
    lr = [value for value in published_lr(1.5e-4 * 128 / 256, 40, 300, steps) for _ in range(2)]
    momenta = [value for value in published_momentum(0.99, 300, steps) for _ in range(2)]
    assert model.lr == pytest.approx(lr, rel=1e-9, abs=1e-19)
    assert model.momenta == pytest.approx(momenta, rel=1e-14)
    assert model.updates == 300 * steps


@pytest.mark.parametrize(('name', 'peak'), [('vit-small_linear', 3.0 / 2), ('resnet50_linear', 0.1 / 2)])
def test_linear_schedule_is_a_cosine_per_epoch(name, peak, tmp_path):
    model = run(load(f'configs/mocov3/{name}.py'), tmp_path)
    published = [peak * 0.5 * (1 + cos(pi * epoch / 90)) for epoch in range(90) for _ in range(ITERS)]
    assert model.lr == pytest.approx(published, rel=1e-12)
    assert model.updates == 0
