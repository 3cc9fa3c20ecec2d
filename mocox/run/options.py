"""Apply the options of the command line to a config."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mocox.configs import open_config
from mocox.recipe import type_of
from mocox.run.checks import check_options, is_views_dataset, require_file
from mocox.run.scale_options import scale

if TYPE_CHECKING:
    from mmengine.config import Config


def prepare_config(
    path: str,
    *,
    work_dir: str | None = None,
    data_root: str | None = None,
    cfg_options: dict[str, Any] | None = None,
    pretrained: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    arch: str | None = None,
    lr: float | None = None,
    workers: int | None = None,
    amp: bool = False,
    auto_scale_lr: bool = False,
    resume: str | None = None,
    launcher: str = 'none',
    local_rank: int = 0,
) -> 'Config':
    """Read a config and apply the options of the command line to it.

    Args:
        path: A file, or ``mocox::FOLDER/NAME.py``.
        work_dir: Where logs and checkpoints go; by default ``work_dirs/CONFIG_NAME``.
        data_root: The folder with the images, instead of the one in the config.
        cfg_options: Values by key, with dots.
        pretrained: A checkpoint for the backbone: a file, a folder, or ``timm:NAME`` in timm's cache.
        epochs: See :func:`mocox.run.scale_options.scale`, as for the next five.
        batch_size: Likewise.
        image_size: Likewise.
        arch: Likewise.
        lr: Likewise.
        workers: Likewise.
        amp: Mixed precision.
        auto_scale_lr: Scale the learning rate by batch size / ``base_batch_size``.
        resume: A checkpoint to continue from, or ``'auto'`` for the newest whole one in the work dir.
        launcher: Of :data:`mocox.processes.LAUNCHERS`.
        local_rank: Of this process, where the launcher passes it as an argument.

    Raises:
        FileNotFoundError: The config, ``data_root``, ``resume`` or ``pretrained`` does not exist.
        ValueError: A file that is not a config, or an option that does not fit it.
    """
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
    config = open_config(path)
    scale(
        config, epochs=epochs, batch_size=batch_size, image_size=image_size, arch=arch, lr=lr, workers=workers
    )  # fmt: skip
    if cfg_options:
        check_options(config, cfg_options)
        config.merge_from_dict(cfg_options)
        _find_widths(config, cfg_options)
    config.launcher = launcher
    config.work_dir = work_dir or config.get('work_dir') or str(Path('work_dirs', Path(path).stem))
    if data_root:
        _set_data_root(config, data_root)
    if pretrained:
        _require_weights(pretrained)
        _set_pretrained(config, pretrained)
    if amp:
        _use_mixed_precision(config)
    if auto_scale_lr:
        if 'base_batch_size' not in config.get('auto_scale_lr', {}):
            raise ValueError(
                '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config: the batch '
                'size that its learning rate is for'
            )
        config.auto_scale_lr.enable = True
    if resume:
        _set_resume(config, resume)
    return config


def _find_widths(config: 'Config', options: dict[str, Any]) -> None:
    """Drop the stated width of a backbone that an option has changed: the model determines it when it is built."""
    if not any(option.startswith('model.backbone') for option in options):
        return
    for name in ('neck', 'head'):
        part = (config.get('model') or {}).get(name)
        if isinstance(part, dict) and f'model.{name}.in_channels' not in options and f'model.{name}' not in options:
            part.pop('in_channels', None)


def _require_weights(pretrained: str) -> None:
    from mocox.checkpoint.timm_pretrained import PREFIX, cached_file

    if pretrained.startswith(PREFIX):
        cached_file(pretrained)
    else:
        require_file(pretrained, '--pretrained', or_folder=True)


def _set_pretrained(config: 'Config', path: str) -> None:
    config.model.backbone.init_cfg = dict(type='mocox.Pretrained', checkpoint=path)
    _take_over_pixels(config, path)
    shared_head = config.model.get('roi_head', {}).get('shared_head')
    if shared_head:  # a C4 detector of mmdetection: the last stage of its ResNet works on regions
        part = f'layer{shared_head.stage + 1}.'
        shared_head.init_cfg = dict(type='mocox.Pretrained', checkpoint=path, part=part)


def _take_over_pixels(config: 'Config', path: str) -> None:
    """Read and normalise images as for the pretrained backbone, unless that was trained on 8-bit RGB.

    Of a config that says itself how images are read, only what it leaves to be measured on them is taken over.
    """
    from mocox.checkpoint import read
    from mocox.datasets import Pixels

    loaders = [config.get(f'{name}_dataloader') or {} for name in ('train', 'val', 'test')]
    datasets = [loader['dataset'] for loader in loaders if is_views_dataset(loader.get('dataset'))]
    if not datasets:
        return
    meta = read(path).meta
    pixels = Pixels.from_settings(meta.get('pixels'))
    is_told = any(Pixels.from_settings(dataset).settings() for dataset in datasets)
    measured = ('auto_range', 'nodata', 'depth')
    taken = {key: value for key, value in pixels.settings().items() if not is_told or key in measured}
    for dataset in datasets if pixels.settings() else ():
        dataset.update({key: value for key, value in taken.items() if key not in dataset})
    if is_told or not pixels.settings():
        return
    config.model.backbone.setdefault('in_channels', pixels.num_channels)
    holder = config.model if config.model.get('data_preprocessor') else config
    if meta.get('mean') and holder.get('data_preprocessor'):
        holder.data_preprocessor.update(mean=meta['mean'], std=meta['std'])


def _set_data_root(config: 'Config', data_root: str) -> None:
    if '://' not in data_root and not Path(data_root).is_dir():  # shards may lie in an object store
        is_file = ' (it is a file: pass the folder that holds it)' if os.path.isfile(data_root) else ''
        raise FileNotFoundError(f'--data-root: there is no folder {data_root}{is_file}')
    holders = list(_dicts_with(config._cfg_dict, 'data_root'))
    if not holders:
        raise ValueError('--data-root: no dataset of this config has a data_root')
    evaluators = [config.get(name) for name in ('val_evaluator', 'test_evaluator')]
    for evaluator in _dicts_with(evaluators, 'ann_file'):  # mmdetection's: a path of its own
        for old in {holder['data_root'] for holder in holders}:
            if evaluator['ann_file'].startswith(old):
                evaluator['ann_file'] = str(Path(data_root, evaluator['ann_file'].removeprefix(old).lstrip('/')))
                break
    for holder in holders:
        holder['data_root'] = data_root


def _dicts_with(node: object, key: str) -> Iterator[dict]:
    if isinstance(node, dict):
        if key in node:
            yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from _dicts_with(item, key)


def _use_mixed_precision(config: 'Config') -> None:
    import torch

    kind = config.optim_wrapper.get('type', 'OptimWrapper')
    if type_of(config.optim_wrapper) not in ('', 'OptimWrapper', 'AmpOptimWrapper'):
        raise ValueError(f'--amp replaces an OptimWrapper, but the config has optim_wrapper.type={kind!r}')
    lacks_bfloat16 = torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False)
    config.optim_wrapper.update(type='mocox.AmpOptimWrapper', dtype='float16' if lacks_bfloat16 else 'bfloat16')


def _set_resume(config: 'Config', resume: str) -> None:
    if resume != 'auto':
        require_file(resume, '--resume')
        config.load_from = resume
    config.resume = True if resume != 'auto' else 'auto'
