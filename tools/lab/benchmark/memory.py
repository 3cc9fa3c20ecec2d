"""Peak memory of a training step for several chunk sizes, and what fits on which card."""

import gc
from collections.abc import Callable

import torch
from mmengine.config import Config
from torch import Tensor

from lab.benchmark import memory_model
from lab.benchmark.contender import Contender, random_views
from lab.benchmark.live_memory import peak_bytes
from lab.benchmark.report import Result, device_name, table
from lab.benchmark.step import Setting, build, check_equal, compare_losses
from mocox.models.backbones.vit import resolve_arch

CARDS_GB = (8, 16, 24, 40, 80, 141)
BATCHES = (1024, 4096)
ARCHS = {'vit-small': 2, 'vit-base': 2, 'vit-large': 2, 'resnet50': 1}  # moments of the published optimizer
TOLERANCE = 2e-3  # of losses: under bfloat16, products of other shapes round in another way
GIB = 2**30  # what cards call a GB
PEER = 'mmpretrain'


def benchmark_memory(config: Config, setting: Setting, chunk_sizes: list[int] | None, with_peer: bool) -> Result:
    """Measures one training step for each chunk size, and the peer's; prints as it goes.

    Ours is the peak with the smallest chunk; the ratio is the peer's peak over it.

    Args:
        config: Of ours.
        setting: Batch, image size, device.
        chunk_sizes: To try besides no chunks; by default a half and an eighth of the batch, where these are exact.
        with_peer: Whether to measure mmpretrain too, after comparing losses.

    Raises:
        ValueError: A chunk size changes the loss of a backbone without BatchNorm, or the smallest one does not fit.
    """
    differences = compare_losses(config, setting) if with_peer else {}
    exact = config.model.backbone.type.rpartition('.')[2] == 'MoCoViT' and config.model.backbone.get('stem') != 'conv'
    if chunk_sizes is None:
        chunk_sizes = [max(setting.batch_size // share, 2) for share in (2, 8)] if exact else []
    views = random_views(setting.batch_size, setting.image_size, setting.device)
    peaks, losses, computed = {}, {}, {}
    for chunk_size in (None, *sorted(chunk_sizes, reverse=True)):
        name = f'ours, chunk_size={chunk_size}'
        chunked = with_chunks(config, chunk_size)
        computed[name] = compute(chunked, setting, setting.autocast is not None)
        try:
            peaks[name], losses[name] = measure(lambda c=chunked: build(c, setting, False)[0], views, setting.device)
        except torch.OutOfMemoryError:
            print(f'{name}: does not fit')
            continue
        if exact:
            check_equal([[loss] for loss in losses.values()], list(losses), TOLERANCE)
    if name not in peaks:
        raise ValueError(f'a batch of {setting.batch_size} does not fit, even with {name}: try a smaller --chunk-sizes')
    difference = max(losses.values()) - min(losses.values())
    result = Result('memory', ours=peaks[name], device=device_name(setting.device))
    result.max_loss_difference = max([difference if exact else 0.0, *differences.values()])
    if with_peer:
        try:
            peaks[PEER], losses[PEER] = measure(lambda: build(config, setting, True)[1], views, setting.device)
            result.theirs = peaks[PEER]
            result.ratio = result.ratio_min = result.ratio_max = result.theirs / result.ours
        except torch.OutOfMemoryError:
            print(f'{PEER}: does not fit')
    if setting.device == 'cuda':
        result.share_of_limit = result.ours / torch.cuda.get_device_properties(0).total_memory
    result.details = dict(
        unit='bytes at the peak of a step',
        counted="what CUDA's allocator gave out" if setting.device == 'cuda' else 'live tensors at every operation',
        setting=vars(setting),
        peaks=peaks,
        computed=computed,
        losses=losses,
        what_fits=what_fits(),
    )
    print(_report(result))
    return result


def with_chunks(config: Config, chunk_size: int | None) -> Config:
    """The config with this ``chunk_size``."""
    config = config.copy()
    config.model.chunk_size = chunk_size
    return config


def measure(make: Callable[[], Contender], views: list[Tensor], device: str) -> tuple[int, float]:
    """Peak bytes of the second step of a new contender (the first makes the optimizer's moments), and its loss."""
    gc.collect()
    contender = make()
    contender.step(views)
    losses = []
    peak = peak_bytes(lambda: losses.append(contender.step(views)), [*contender.tensors(), *views], device)
    return peak, losses[0].item()


def compute(config: Config, setting: Setting, half: bool) -> float | None:
    """Peak bytes by :mod:`lab.benchmark.memory_model`; None for a backbone that it does not know.

    Args:
        config: Of ours, with its ``chunk_size``.
        setting: Batch and image size.
        half: Whether matrix products run in two bytes under autocast.
    """
    backbone = config.model.backbone
    kind = backbone.type.rpartition('.')[2]
    if kind == 'MoCoViT' and backbone.get('stem', 'patch') == 'patch':
        arch = resolve_arch(backbone.get('arch', 'small'), 'patch')
        sizes = (arch['embed_dims'], arch['num_layers'], arch['num_heads'])
        known = memory_model.describe_vit(*sizes, setting.image_size, backbone.get('patch_size', 16), half)
    elif kind == 'ResNet' and f'resnet{backbone.depth}' in memory_model.RESNETS:
        known = memory_model.describe(f'resnet{backbone.depth}', setting.image_size, half)
    else:
        return None
    return memory_model.step_memory(
        known,
        setting.batch_size,
        config.model.get('chunk_size'),
        setting.image_size,
        half,
        hidden=config.model.neck.hid_channels,
        moments=1 if config.optim_wrapper.optimizer.type.rpartition('.')[2] == 'LARS' else 2,
    ).total


def what_fits(image_size: int = 224) -> dict[str, list[str]]:
    """For each model and batch, per card: the largest chunk size that fits, ``whole`` if none is needed, and GiB."""
    found = {}
    for arch, moments in ARCHS.items():
        backbone = memory_model.describe(arch, image_size, half=True)
        for batch_size in BATCHES:
            fits = [memory_model.largest_chunk(backbone, batch_size, card * GIB, image_size, moments)
                    for card in CARDS_GB]  # fmt: skip
            found[f'{arch}, {batch_size}'] = [
                '-' if fit is None else f'{fit[0] or "whole"} ({fit[1].total / GIB:.1f})' for fit in fits
            ]
    return found


def _report(result: Result) -> str:
    peaks, computed, losses = (result.details[name] for name in ('peaks', 'computed', 'losses'))
    rows = []
    for name, peak in peaks.items():
        expected = computed.get(name)
        rows.append([name, f'{peak / GIB:.3f}', f'{expected / GIB:.3f}' if expected else '-', f'{losses[name]:.6f}'])
    fits = [[name, *row] for name, row in result.details['what_fits'].items()]
    return '\n'.join(
        [
            table(['one step', 'peak, GiB', 'computed, GiB', 'loss'], rows),
            'largest chunk_size that fits, and the GiB it takes; computed, bfloat16, 224 px, ResNet-50 per chunk:',
            table(['model, batch', *(f'{card} GB' for card in CARDS_GB)], fits),
        ]
    )
