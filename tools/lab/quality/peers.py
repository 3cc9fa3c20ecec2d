"""The peers' own models, losses and momentum updates from their packages, with the settings that their authors ship.

Images, views, batch, steps and backbone are those of the contest. Everything else that differs is a remark.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from lab.benchmark.contender import PreparedViews, quiet
from lab.benchmark.mmpretrain_peer import CONFIGS
from lab.quality.contestants import Builder, Contestant, Pooled, build_backbone, gradient_step, width_of


def lightly_moco(
    temperature: float, lr: float, per: int, decays: bool, symmetric: bool, **sgd: Any
) -> Callable[[Config, int, int], Contestant]:
    """MoCo as lightly's example and its CIFAR-10 benchmark write it.

    Args:
        temperature: Of the loss.
        lr: As published.
        per: Images of the batch that it belongs to.
        decays: Whether it falls along a cosine.
        symmetric: Whether each view is the query once.
        sgd: Further settings of the optimizer.
    """

    def build(contest: Config, batch: int, steps: int) -> Contestant:
        from lightly.loss import NTXentLoss
        from lightly.models.modules import MoCoProjectionHead
        from lightly.models.utils import deactivate_requires_grad, update_momentum

        backbone, width = build_backbone(contest), width_of(contest)
        query = nn.Sequential(backbone, MoCoProjectionHead(width, width, 128))
        key = copy.deepcopy(query)
        deactivate_requires_grad(key)
        criterion = NTXentLoss(temperature=temperature, memory_bank_size=(4096, 128))
        optimizer = torch.optim.SGD(query.parameters(), lr=lr, **sgd)

        def loss_of(views: list[Tensor]) -> Tensor:
            update_momentum(query, key, m=0.99)
            pairs = [views[:2], views[1::-1]] if symmetric else [views[:2]]
            losses = [criterion(query(first), key(second).detach()) for first, second in pairs]
            return torch.stack(losses).mean()

        remark = f'projector {width}-{width}-128, published 512-512-128'
        return Contestant(
            backbone, optimizer, gradient_step(optimizer, loss_of), lr * batch / per, decays=decays, remarks=[remark]
        )

    return build


def stable_pretraining(method: str, lr: float, weight_decay: float, warmup: float = 0.0, **settings: Any) -> Builder:
    """``MoCov2`` or ``MoCov3`` of stable-pretraining with its default arguments; it ships no recipe for either.

    Args:
        method: Name of the class.
        lr: For 256 images.
        weight_decay: Of the optimizer.
        warmup: Part of the run.
        settings: Of the model, where the defaults do not fit.
    """

    def build(contest: Config, batch: int, steps: int) -> Contestant:
        from stable_pretraining import methods

        torch.set_num_threads(1)  # importing it may change that
        backbone = build_backbone(contest)
        model = getattr(methods, method)(backbone, **settings).train()
        parameters = [p for p in model.parameters() if p.requires_grad]
        if method == 'MoCov2':
            optimizer: Any = torch.optim.SGD(parameters, lr, momentum=0.9, weight_decay=weight_decay)
        else:
            optimizer = torch.optim.AdamW(parameters, lr, weight_decay=weight_decay)
        teachers = [module for module in model.modules() if hasattr(module, 'update_teacher')]
        train = gradient_step(optimizer, lambda views: model(views[0], views[1]).loss)
        done = 0

        def step(views: list[Tensor]) -> float:
            nonlocal done
            loss = train(views)
            for teacher in teachers:  # as its callback does after every step
                teacher.update_ema_coefficient(done, steps)
                teacher.update_teacher()
            done += 1
            return loss

        remarks = [f'optimizer of the paper, lr {lr} for 256 images: it ships no recipe', f'settings {settings}']
        return Contestant(model.backbone.student, optimizer, step, lr * batch / 256, warmup, remarks=remarks)

    return build


def mmpretrain_v3(contest: Config, batch: int, steps: int) -> Contestant:
    """Mmpretrain's MoCo v3 with its recipe for ResNet-50 and 100 epochs, which has a rate for 4,096 images."""
    recipe = get_config(CONFIGS['resnet'])
    model_config = recipe.model
    model_config.backbone = dict(contest.model.backbone, type='ResNet_CIFAR', norm_cfg=dict(type='BN'))
    model_config.neck.in_channels = width_of(contest)
    model_config.data_preprocessor = recipe.data_preprocessor
    wrapper = recipe.optim_wrapper.to_dict() | dict(type='OptimWrapper')
    wrapper.pop('loss_scale', None)
    MessageHub.get_current_instance().update_info('max_iters', steps)  # as its Runner does
    with quiet(), DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(model_config)
        model.init_weights()
        model = revert_sync_batchnorm(model).train()
        optim_wrapper = build_optim_wrapper(model, wrapper)
    model.data_preprocessor = PreparedViews()

    def step(views: list[Tensor]) -> float:
        return float(model.train_step(dict(inputs=views, data_samples=None), optim_wrapper)['loss'].detach())

    lr = wrapper['optimizer']['lr'] * batch / 4096
    remarks = [
        f'config {CONFIGS["resnet"]}',
        f'neck.in_channels {width_of(contest)}, published 2048',
        'no mixed precision',
    ]
    return Contestant(Pooled(model.backbone), optim_wrapper.optimizer, step, lr, warmup=0.1, remarks=remarks)


def views_from(smallest: float, jitter: float, blur: float) -> dict[str, Any]:
    """Changes to the contest's recipe: crops from ``smallest`` of the image on, and the rest of a view of gray pixels.

    Args:
        smallest: Part of the image.
        jitter: Strength of brightness and contrast, for four of five images.
        blur: Probability, sigma 0.1 to 2 pixels.
    """
    view = dict(color_jitter=dict(brightness=jitter, contrast=jitter), color_jitter_prob=0.8, flip_prob=0.5)
    view |= dict(blur_prob=blur, blur_sigma=(0.1, 2.0)) if blur else {}
    return {'train_dataloader.dataset.crops.scale': (smallest, 1.0), 'data_preprocessor.views': [view] * 2}


HEADS_OF_512 = dict(projector_dims=(512, 512, 128), predictor_hidden_dim=512)  # its own, of 4096, take a second a step
PEERS: dict[str, Builder] = {
    "lightly's example": lightly_moco(0.5, 0.06, per=256, decays=False, symmetric=False),
    "lightly's CIFAR": lightly_moco(0.1, 0.06, per=128, decays=True, symmetric=True, momentum=0.9, weight_decay=5e-4),
    'stable-pretraining v2': stable_pretraining('MoCov2', 0.03, 1e-4),
    'stable-pretraining v3': stable_pretraining('MoCov3', 1.5e-4, 0.1, warmup=0.1),
    'stable-pretraining v3, heads of 512': stable_pretraining('MoCov3', 1.5e-4, 0.1, warmup=0.1, **HEADS_OF_512),
    'mmpretrain v3': mmpretrain_v3,
}
# With --own: as their authors have them. Those of MoCo v2, which are the defaults of lightly's MoCoV2Transform, for its
# example and where the peer ships none; for lightly's benchmark SimCLRTransform(cj_strength=0.5, gaussian_blur=0).
VIEWS: dict[str, dict[str, Any]] = dict.fromkeys(PEERS, views_from(0.2, 0.4, 0.5)) | {
    "lightly's CIFAR": views_from(0.08, 0.4, 0.0)
}
