"""Full schedules as MMEngine runs them from the shipped configs, against the papers' formulas, step for step."""

from math import cos, pi

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from timm.scheduler import CosineLRScheduler
from torch import nn

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
        custom_hooks=cfg.get('custom_hooks'),
        default_hooks=dict.fromkeys(['logger', 'checkpoint', 'timer', 'runtime_info', 'sampler_seed']),
        default_scope='mocox',
        experiment_name=tmp_path.name,
        log_level='ERROR',
        cfg=dict(auto_scale_lr=cfg.auto_scale_lr.to_dict()),
    )
    runner.train()
    return model


def published_lr(peak, warmup, epochs, iters, start=0.0, end=0.0):
    """Linear in the fractional epoch e = epoch + i / iters until the warm-up ends, then half a cosine."""
    for epoch in range(epochs):
        for i in range(iters):
            e = epoch + i / iters
            if e < warmup:
                yield start + (peak - start) * e / warmup
            else:
                yield end + (peak - end) * 0.5 * (1 + cos(pi * (e - warmup) / (epochs - warmup)))


def published_momentum(m, epochs, iters, end=1.0):
    for epoch in range(epochs):
        for i in range(iters):
            yield end - 0.5 * (1 + cos(pi * (epoch + i / iters) / epochs)) * (end - m)


# name, per-device peak lr of the table (lr per 256 x images per device / 256), warm-up, epochs, momentum
@pytest.mark.parametrize(
    ('name', 'peak', 'warmup', 'epochs', 'm'),
    [
        ('mocov3/vit-small', 1.5e-4 * 128 / 256, 40, 300, 0.99),
        ('mocov3/resnet50_100e', 0.6 * 256 / 256, 10, 100, 0.99),
        ('mocov3/resnet50_1000e', 0.3 * 256 / 256, 10, 1000, 0.996),
    ],
)
def test_pretraining_schedule(name, peak, warmup, epochs, m, tmp_path):
    iters = 2 if epochs == 1000 else ITERS
    model = run(load(f'configs/{name}.py'), tmp_path, iters=iters)
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


@pytest.mark.parametrize(('name', 'peak'), [('mocov3/vit-small_linear', 3.0 / 2), ('mocov3/resnet50_linear', 0.1 / 2)])
def test_linear_schedule_is_a_cosine_per_epoch(name, peak, tmp_path):
    model = run(load(f'configs/{name}.py'), tmp_path)
    published = [peak * 0.5 * (1 + cos(pi * epoch / 90)) for epoch in range(90) for _ in range(ITERS)]
    assert model.lr == pytest.approx(published, rel=1e-12)
    assert model.updates == 0


@pytest.mark.parametrize(('name', 'epochs'), [('mocov2/resnet50_200e', 200), ('mocov2/resnet50_800e', 800)])
def test_v2_is_a_cosine_per_epoch_with_constant_momentum(name, epochs, tmp_path):
    """The rate of 256 images whatever one device sees, and no warm-up."""
    model = run(load(f'configs/{name}.py'), tmp_path, iters=2)
    published = [0.03 * 0.5 * (1 + cos(pi * epoch / epochs)) for epoch in range(epochs) for _ in range(2)]
    assert model.lr == pytest.approx(published, rel=1e-9)
    assert model.momenta == [0.999] * (2 * epochs)
    assert model.updates == 2 * epochs


def test_v1_is_divided_by_ten_after_120_and_160_epochs(tmp_path):
    model = run(load('configs/mocov1/resnet50_200e.py'), tmp_path)
    published = [0.03] * 120 + [0.003] * 40 + [0.0003] * 40
    assert model.lr == pytest.approx([lr for lr in published for _ in range(ITERS)], rel=1e-12)
    assert model.momenta == [0.999] * (200 * ITERS)


@pytest.mark.parametrize('name', ['mocov1/resnet50_linear', 'mocov2/resnet50_linear', 'mocov2/resnet18_cifar10_linear'])
def test_linear_evaluation_of_v1_and_v2_is_divided_by_ten_after_60_and_80_epochs(name, tmp_path):
    model = run(load(f'configs/{name}.py'), tmp_path)
    published = [30.0] * 60 + [3.0] * 20 + [0.3] * 20
    assert model.lr == pytest.approx([lr for lr in published for _ in range(ITERS)], rel=1e-12)
    assert model.updates == 0


def test_symmetric_v2_warms_up_and_raises_the_momentum(tmp_path):
    model = run(load('configs/mocov2/resnet50_symmetric_100e.py'), tmp_path)
    assert model.lr == pytest.approx(list(published_lr(0.3 * 64 / 256, 10, 100, ITERS)), rel=1e-9, abs=1e-17)
    assert model.momenta == pytest.approx(list(published_momentum(0.99, 100, ITERS, end=0.999)), rel=1e-14)


def timms_cosine(peak, epochs, start, warmup, end):
    """The schedule of timm: a cosine from the first iteration on, its beginning replaced by warm-up."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    scheduler = CosineLRScheduler(
        optimizer, epochs * ITERS, lr_min=end, warmup_lr_init=start, warmup_t=warmup * ITERS, t_in_epochs=False
    )
    for i in range(epochs * ITERS):
        scheduler.step_update(i)
        yield optimizer.param_groups[0]['lr']


@pytest.mark.parametrize(('name', 'peak', 'epochs'), [('swin-tiny', 1e-3, 300), ('swin-tiny_linear', 1.0, 100)])
def test_moby(name, peak, epochs, tmp_path):
    """One of the eight devices: an eighth of 512 images. The end of the cosine does not scale."""
    model = run(load(f'configs/moby/{name}.py'), tmp_path)
    assert model.lr == pytest.approx(list(timms_cosine(peak / 8, epochs, 5e-7 / 8, 5, 5e-6)), rel=1e-9)
    if name == 'swin-tiny':
        assert model.momenta == pytest.approx(list(published_momentum(0.99, epochs, ITERS)), rel=1e-14)


@pytest.mark.parametrize(
    ('name', 'peak', 'epochs', 'warmup'),
    [('finetune/vit-base_imagenet', 5e-4, 150, 5), ('transfer/vit-base_cifar10', 3e-4, 100, 3)],
)
def test_finetuning(name, peak, epochs, warmup, tmp_path):
    """One of the eight devices with 128 images, a quarter of 512. DeiT steps timm's schedule after each epoch."""
    model = run(load(f'configs/benchmarks/{name}.py'), tmp_path)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak / 4)
    scheduler = CosineLRScheduler(optimizer, epochs, lr_min=1e-5, warmup_lr_init=peak / 4e3, warmup_t=warmup)
    published = []
    for epoch in range(epochs):
        published += [optimizer.param_groups[0]['lr']] * ITERS
        scheduler.step(epoch)
    assert model.lr == pytest.approx(published, rel=1e-9)


def test_fast_moco(tmp_path):
    model = run(load('configs/fast_moco/resnet50_100e.py'), tmp_path)
    assert model.lr == pytest.approx(list(published_lr(0.1, 1, 100, ITERS, start=0.025)), rel=1e-9)
    assert model.momenta == [0.99] * (100 * ITERS)
