"""mmpretrain as a contender, built from its own published config through its own package.

What it needs to run here at all is done in this module and nowhere else, and every such change is a line of
``remarks``, which the benchmark prints.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from lab.benchmark.contender import NUM_STEPS, Contender, quiet
from mocox.checkpoint import names
from mocox.models.backbones.vit import resolve_arch
from mocox.models.batch_norm import SyncBatchNorm

CONFIGS = {
    'small': 'mmpretrain::mocov3/mocov3_vit-small-p16_16xb256-amp-coslr-300e_in1k.py',
    'base': 'mmpretrain::mocov3/mocov3_vit-base-p16_16xb256-amp-coslr-300e_in1k.py',
    'large': 'mmpretrain::mocov3/mocov3_vit-large-p16_64xb64-amp-coslr-300e_in1k.py',
    'resnet': 'mmpretrain::mocov3/mocov3_resnet50_8xb512-amp-coslr-100e_in1k.py',
    'v2': 'mmpretrain::mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py',
}
RESNET_SETTINGS = ('depth', 'base_channels', 'stem_channels')
MLP_SETTINGS = ('in_channels', 'hid_channels', 'out_channels', 'num_layers', 'with_bias', 'with_last_bn')


def published_config(ours: Config) -> tuple[Config, list[str]]:
    """The config that mmpretrain publishes for the model of ours, and what had to be changed in it.

    Raises:
        ImportError: mmpretrain is not installed.
        ValueError: mmpretrain has no such model.
    """
    if find_spec('mmpretrain') is None:
        raise ImportError('--against mmpretrain: mmpretrain is not installed (pip install mmpretrain), or leave it out')
    model = ours.model
    backbone = model.backbone
    kind = backbone.type.rpartition('.')[2]
    is_vit = kind == 'MoCoViT' and backbone.get('stem', 'patch') == 'patch' and not backbone.get('learn_positions')
    version = {'MoCoV3': 3, 'MoCo': 2}.get(model.type.rpartition('.')[2])
    has_peer = (version == 3 and (is_vit or kind == 'ResNet')) or (version == 2 and _is_plain_v2(model))
    if not has_peer:
        raise ValueError(
            '--against mmpretrain: it is compared on MoCo v3 with a ResNet or a plain ViT and on MoCo v2 with a ResNet '
            f'and plain BatchNorm, not on {model.type} with {kind} {backbone.get("stem", "")}; leave --against out to '
            'measure this model alone'
        )
    arch = backbone.get('arch', 'small')
    known = isinstance(arch, str) and arch in CONFIGS
    name = 'v2' if version == 2 else 'resnet' if kind == 'ResNet' else arch if known else 'small'
    config = get_config(CONFIGS[name])
    wanted: dict[str, Any] = {}
    if kind == 'ResNet':
        wanted |= {f'backbone.{key}': backbone[key] for key in RESNET_SETTINGS if key in backbone}
    else:
        if not known:
            wanted['backbone.arch'] = resolve_arch(arch, 'patch')
        for key in ('img_size', 'patch_size', 'stop_grad_conv1'):
            wanted[f'backbone.{key}'] = backbone.get(key, config.model.backbone[key])
    for path, mlp in (('neck', model.neck), ('head.predictor', model.head.get('predictor', {}))):
        wanted |= {f'{path}.{key}': mlp[key] for key in MLP_SETTINGS if key in mlp}
    wanted['head.temperature'] = model.head.get('temperature', 1.0)
    if version == 3:
        wanted['head.loss.loss_weight'] = 2 * wanted['head.temperature']
        wanted['base_momentum'] = round(1 - model.base_momentum, 9)
    else:
        wanted |= dict(queue_len=model.queue_len, feat_dim=model.feat_dim, momentum=round(1 - model.base_momentum, 9))
    remarks = [f'config {CONFIGS[name]}', *_change(config.model, wanted)]
    config.model.data_preprocessor = config.data_preprocessor
    return config, remarks


def _is_plain_v2(model: Config) -> bool:
    """True if BatchNorm is per process and one view queries: mmpretrain has no other MoCo v2."""
    norm = model.backbone.get('norm_cfg', dict(type='BN'))['type']
    return model.backbone.type.rpartition('.')[2] == 'ResNet' and norm == 'BN' and not model.get('symmetric')


def _change(config: Config, wanted: Mapping[str, Any]) -> list[str]:
    remarks = []
    for path, value in wanted.items():
        *parents, key = path.split('.')
        node = config
        for parent in parents:
            node = node[parent]
        if node.get(key) != value:
            remarks.append(f'model.{path} is {value}, published {node.get(key)}')
            node[key] = value
    return remarks


def comparable(config: Config) -> Config:
    """Our config, without what mmpretrain computes in another way: the decay inside of LARS."""
    config = config.copy()
    if config.optim_wrapper.optimizer.type.rpartition('.')[2] == 'LARS':
        config.optim_wrapper.optimizer.weight_decay = 0.0
    return config


class MMPretrain(Contender):
    """mmpretrain's MoCo v2 or v3 with the weights of ours.

    Args:
        ours: Whose weights to start from.
        ours_config: What ours was built from, see :func:`comparable`.
        device: ``cpu`` or ``cuda``.
        dtype: Of the weights.
        amp: Train with the published float16 wrapper, which needs a GPU.
        processes: That train together.
    """

    name = 'mmpretrain'

    def __init__(
        self,
        ours: Contender,
        ours_config: Config,
        device: str,
        dtype: torch.dtype = torch.float32,
        amp: bool = False,
        processes: int = 1,
    ) -> None:
        config, remarks = published_config(ours_config)
        with quiet(), DefaultScope.overwrite_default_scope('mmpretrain'):
            model = MODELS.build(config.model)
            model.init_weights()  # freezes the positions
            if processes == 1:
                model = revert_sync_batchnorm(model)
                remarks.append('SyncBN reverted to BatchNorm, as its own Runner does in a single process')
            elif device == 'cpu':
                take_our_sync_batch_norm(model)
                remarks.append("SyncBN computed by that of mocox: torch's needs a GPU")
            load_ours(model, ours.model)
            self.keys = momentum_encoder(model)
            model.to(device, dtype)
            wrapper = optim_wrapper_config(config, ours_config, amp, remarks)
            super().__init__(model, build_optim_wrapper(model, wrapper), remarks)
        # Its Runner stores this, and the schedule of its momentum reads it.
        MessageHub.get_current_instance().update_info('max_iters', NUM_STEPS)
        remarks.append(f'MessageHub max_iters={NUM_STEPS}, which its Runner would set')
        self.find_unused_parameters = config.get('find_unused_parameters', False)

    def step(self, views: list[Tensor]) -> Tensor:
        """MMEngine's step: this model moves its momentum encoder in the forward pass."""
        return self.train_step(views)

    def update_momentum(self) -> None:
        """The update alone."""
        with torch.no_grad():
            self.keys.update_parameters(nn.Sequential(self.model.backbone, self.model.neck))

    def forward_backward(self, views: list[Tensor]) -> None:
        """As of every contender; the momentum update, which belongs to this model's forward pass, is left out."""
        with _disabled(self.keys, 'update_parameters'):
            super().forward_backward(views)


@contextmanager
def _disabled(owner: nn.Module, method: str) -> Iterator[None]:
    setattr(owner, method, lambda *args: None)
    try:
        yield
    finally:
        delattr(owner, method)


def take_our_sync_batch_norm(model: nn.Module) -> None:
    """Make torch's SyncBatchNorm ours, in place: the same tensors and settings, and it runs on a CPU."""
    for module in model.modules():
        if isinstance(module, nn.SyncBatchNorm):
            module.__class__ = SyncBatchNorm


def optim_wrapper_config(config: Config, ours: Config, amp: bool, remarks: list[str]) -> dict:
    """The published optimizer with our learning rate and decay, where the two can be equal.

    Raises:
        ValueError: The two configs name different optimizers.
    """
    wrapper, own = config.optim_wrapper.to_dict(), ours.optim_wrapper.optimizer
    optimizer = wrapper['optimizer']
    if own.type.rpartition('.')[2] != optimizer['type']:
        raise ValueError(
            f'the optimizer of our config is {own.type}, that of mmpretrain {optimizer["type"]}: losses cannot be equal'
        )
    remarks.append(f'optimizer.lr is {own.lr}, published {optimizer["lr"]} for its batch')
    optimizer.update(lr=own.lr, weight_decay=own.get('weight_decay', 0.0))
    if optimizer['type'] == 'LARS':
        optimizer['eps'] = 0.0
        remarks.append('weight_decay=0 in both, eps=0 in its LARS: its decay and its eps are not those of the paper')
    if not amp:
        wrapper.update(type='OptimWrapper')
        wrapper.pop('loss_scale', None)
        remarks.append('no mixed precision (published: float16)')
    return wrapper


def momentum_encoder(model: nn.Module) -> nn.Module:
    """The momentum encoder of MoCo v3 or v2, which name it differently."""
    return model.momentum_encoder if hasattr(model, 'momentum_encoder') else model.encoder_k


def load_ours(model: nn.Module, ours: nn.Module) -> None:
    """Copy the weights of our model into mmpretrain's, all of them.

    Raises:
        RuntimeError: A tensor is left over on either side.
    """
    backbone = ours.backbone.state_dict()
    if 'blocks.0.norm1.weight' in backbone:
        backbone = names.from_ours(backbone, 'mmpretrain')
    model.backbone.load_state_dict(backbone)
    model.neck.load_state_dict(ours.neck.state_dict())
    if getattr(ours.head, 'predictor', None) is not None:
        model.head.predictor.load_state_dict(ours.head.predictor.state_dict())
    else:
        model.queue.copy_(ours.queue.keys)
    for part, own in zip(momentum_encoder(model).module, (model.backbone, model.neck)):
        part.load_state_dict(own.state_dict())


def adjust_hue(img: np.ndarray, hue_factor: float, backend: str | None = None) -> np.ndarray:
    """``mmcv.adjust_hue`` without its overflow on numpy 2 where the shift is negative.

    Args:
        img: (H, W, 3) uint8, BGR.
        hue_factor: Shift of the hue, in turns, from -0.5 to 0.5.
        backend: ``pillow`` or ``cv2``, whose hues have 256 and 180 steps.
    """
    from PIL import Image

    if backend == 'pillow':
        h, s, v = Image.fromarray(img[..., ::-1]).convert('HSV').split()
        shifted = np.array(h) + np.array(int(hue_factor * 255) % 256).astype(np.uint8)
        hsv = Image.merge('HSV', (Image.fromarray(shifted), s, v))
        return np.array(hsv.convert('RGB'), dtype=img.dtype)[..., ::-1]
    hsv = cv2.cvtColor(img, cv2.COLOR_BGR2HSV_FULL)
    hsv[..., 0] += np.array(int(hue_factor * 255) % 256).astype(np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR_FULL)


def view_pipeline(config: Config, image_size: int, remarks: list[str]) -> Any:
    """The published pipeline of a training image, from the path of a file to packed views.

    Returns:
        A function of ``dict(img_path=...)``.
    """
    import mmcv
    from mmengine.dataset import Compose

    if not np.__version__.startswith('1.'):
        mmcv.adjust_hue = adjust_hue
        remarks.append('mmcv.adjust_hue replaced: it overflows on numpy 2 where the hue shift is negative')
    pipeline = config.train_dataloader.dataset.pipeline
    for view in pipeline[1].transforms:
        if view[0].scale != image_size:
            remarks.append(f'crops of {image_size} px, published {view[0].scale}')
            view[0].scale = image_size
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return Compose(pipeline)
