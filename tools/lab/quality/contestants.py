"""The contestants: their common interface, mocox's methods, and the baselines."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.nn import functional as F

from lab.benchmark.contender import quiet
from lab.benchmark.mocox_contender import Ours, read_config
from mocox.registry import MODELS


class Pooled(nn.Module):
    """A backbone whose last map is averaged: (B, C, S, S) to (B, C)."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """Features of normalised images."""
        output = self.backbone(images)
        last = output[-1] if isinstance(output, tuple | list) else output
        return last.mean((2, 3)) if last.ndim == 4 else last


@dataclass
class Contestant:
    """A model in training.

    Args:
        backbone: (B, C, S, S) to features (B, D): what is judged.
        optimizer: Of all that is trained.
        step: Takes views, V x (B, C, S, S), trains once and returns the loss.
        lr: At the peak, for this batch; 0: it does not train.
        warmup: Part of the run in which the rate rises.
        decays: Whether it falls along a cosine after that.
        remarks: What differs from what its authors ship, one line each.
        wants_labels: Whether labels (B,) come behind the views.
    """

    backbone: nn.Module
    optimizer: torch.optim.Optimizer
    step: Callable[[list[Tensor]], float]
    lr: float
    warmup: float = 0.0
    decays: bool = True
    remarks: list[str] = field(default_factory=list)
    wants_labels: bool = False


Builder = Callable[[Config, int, int], Contestant]  # of the recipe of the contest, images per step, steps


def build_backbone(config: Config) -> Pooled:
    """The backbone of the contest with torch's own BatchNorm, its weights drawn as MMEngine draws them."""
    settings = dict(config.model.backbone, norm_cfg=dict(type='BN'))
    with quiet(), DefaultScope.overwrite_default_scope('mocox'):
        backbone = MODELS.build(settings)
        backbone.init_weights()
    return Pooled(backbone)


def width_of(contest: Config) -> int:
    """Of the features: a ViT says it; the last stage of a ResNet-18 has eight times the channels of its first."""
    backbone = contest.model.backbone
    return backbone.arch.embed_dims if 'arch' in backbone else 8 * backbone.base_channels * backbone.get('grid', 1) ** 2


def gradient_step(
    optimizer: torch.optim.Optimizer, loss_of: Callable[[list[Tensor]], Tensor]
) -> Callable[[list[Tensor]], float]:
    """The step of a model that is a loss of its views and nothing else."""

    def step(views: list[Tensor]) -> float:
        loss = loss_of(views)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def mocox(path: str, changes: dict[str, Any]) -> Builder:
    """A recipe of ours with the backbone of the contest.

    Args:
        path: The recipe.
        changes: What ``--cfg-options`` would change.
    """

    def build(contest: Config, batch: int, steps: int) -> Contestant:
        config = read_config(path, options=changes)
        own = {
            key: config.model.backbone[key]
            for key in ('norm_cfg', 'zero_init_residual')
            if key in config.model.backbone
        }
        config.model.backbone = dict(contest.model.backbone, **own)
        config.model.neck.in_channels = width_of(contest)
        ours = Ours(config, 'cpu')
        ours.runner.max_iters = steps
        scale = batch / config.auto_scale_lr.base_batch_size
        schedule = config.param_scheduler
        return Contestant(
            Pooled(ours.model.backbone),
            ours.optim_wrapper.optimizer,
            lambda views: float(ours.step(views)),
            config.optim_wrapper.optimizer.lr * scale,
            schedule.get('warmup_epochs', 0) / config.train_cfg.max_epochs,
            remarks=[f'{path} with {changes}'] if changes else [],
        )

    return build


def random_weights(contest: Config, batch: int, steps: int) -> Contestant:
    """A backbone with random weights."""
    backbone = build_backbone(contest)
    return Contestant(backbone, torch.optim.SGD(backbone.parameters(), 0.0), lambda views: 0.0, 0.0)


def raw_pixels(contest: Config, batch: int, steps: int) -> Contestant:
    """The pixels themselves."""
    idle = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.0)
    return Contestant(nn.Flatten(), idle, lambda views: 0.0, 0.0)


def supervised(contest: Config, batch: int, steps: int) -> Contestant:
    """A network that is told the label of every training image: AdamW on the first view."""
    backbone = build_backbone(contest)
    classifier = nn.Linear(width_of(contest), 10)
    optimizer = torch.optim.AdamW([*backbone.parameters(), *classifier.parameters()], weight_decay=0.05)
    train = gradient_step(optimizer, lambda views: F.cross_entropy(classifier(backbone(views[0])), views[-1]))
    return Contestant(backbone, optimizer, train, 1e-3, warmup=0.05, wants_labels=True)


REFERENCES: dict[str, Builder] = {
    'random weights': random_weights,
    'raw pixels': raw_pixels,
    'supervised': supervised,
}
SMALL_QUEUE = {'model.queue_len': 4096, 'model.base_momentum': 0.99}
SMALL_HEADS = {
    f'model.{key}': 512
    for key in ('neck.hid_channels', 'neck.out_channels', 'head.predictor.in_channels', 'head.predictor.out_channels')
}
SMALL_MLPS = {'model.neck.hid_channels': 512, 'model.head.predictor.hid_channels': 512}
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    'mocox v1': ('configs/mocov1/resnet50_200e.py', SMALL_QUEUE),
    'mocox v2': ('configs/mocov2/resnet18_fashion.py', {}),
    'mocox v3': ('configs/mocov3/resnet18_fashion.py', {}),
    'mocox MoBY': ('configs/moby/swin-tiny.py', SMALL_MLPS),
    'mocox Fast-MoCo': ('configs/fast_moco/resnet50_100e.py', SMALL_HEADS),
}


# With --own: recipes that say views, and how the last map is read, too.
OWN = {'mocox v2': RECIPES['mocox v2'][0], 'mocox v3': 'configs/mocov3/resnet18-grid_fashion.py'}


def mocox_contestants(options: dict[str, Any], own: bool = False) -> dict[str, Builder]:
    """The methods of mocox. v2 and v3 have recipes for these images; the others are their papers', made small.

    Args:
        options: Changes to the recipes for these images.
        own: Take the recipes of :data:`OWN`.
    """
    recipes = RECIPES | ({name: (path, {}) for name, path in OWN.items()} if own else {})
    return {name: mocox(path, changes or options) for name, (path, changes) in recipes.items()}
