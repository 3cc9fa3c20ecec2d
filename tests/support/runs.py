"""Short real runs under MMEngine's Runner."""

import torch
from mmengine.dataset import DefaultSampler
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

import mocox.engine  # noqa: F401
from tests.support.small_models import VIT, config


class Images(torch.utils.data.Dataset):
    """Sixteen pairs of random views."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict:
        generator = torch.Generator().manual_seed(index)
        return dict(inputs=list(torch.randn(2, 3, 8, 8, generator=generator)))


class Record(Hook):
    """Coefficient and one key weight, at each micro-batch, after the update."""

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.momentum, self.keys, self.queries = [], [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.momentum.append(runner.model.momentum)
        self.keys.append(runner.model.momentum_encoder.backbone.blocks[0].mlp.fc1.weight.clone())
        self.queries.append(runner.model.backbone.blocks[0].mlp.fc1.weight.detach().clone())


def train(tmp_path, epochs=2, accumulation=1, hook=None, model=None, **kwargs) -> tuple[Runner, Record]:
    record = Record()
    runner = Runner(
        model=model or config(VIT, base_momentum=0.9),
        work_dir=str(tmp_path),
        train_dataloader=dict(
            dataset=Images(), batch_size=4, sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.5), accumulative_counts=accumulation),
        custom_hooks=[hook or dict(type='MomentumUpdateHook'), record],
        default_scope='mocox', randomness=dict(seed=0), experiment_name=str(tmp_path.name),
        **dict(log_level='ERROR') | kwargs,
    )  # fmt: skip
    runner.train()
    return runner, record


class CountingModel(BaseModel):
    """Its loss counts 1, 2, 3, ... whatever it sees."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.steps = 0

    def forward(self, inputs, mode='tensor'):
        self.steps += 1
        return dict(loss=self.weight * 0 + self.steps)


def run_counting(tmp_path, hook: Hook, model: BaseModel, epochs: int = 3) -> Runner:
    """Twelve images, four a step: three steps an epoch."""
    data = [dict(inputs=torch.zeros(1)) for _ in range(12)]
    runner = Runner(
        model,
        str(tmp_path),
        custom_hooks=[hook],
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        train_dataloader=DataLoader(data, batch_size=4, sampler=DefaultSampler(data)),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.25)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
    )
    runner.train()
    return runner
