"""The recipe of a run beside the row of the paper's table that it is closest to."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml
from mmengine.config import Config

from mocox.configs import config_folder


@dataclass
class Comparison:
    """A run's settings beside a published recipe's.

    Args:
        name: Of the recipe, as its config is called.
        result: The published number with its source, or None.
        rows: Setting, the run's value, the recipe's value, whether they are equal.
        exact: The run's config has the recipe's name.
    """

    name: str
    result: str | None
    rows: list[tuple[str, str, str, bool]]
    exact: bool

    @property
    def differences(self) -> int:
        return sum(not same for *_, same in self.rows)


def compare(config: dict[str, Any], world_size: int) -> Comparison | None:
    """The published recipe with the name of the run's config, else the one that has most in common with it.

    None for what is no pre-training by MoCo.
    """
    run = settings_of(config, config.get('train_dataloader', {}).get('batch_size', 0) * world_size)
    rows = [row for row in published_rows() if row['settings']['method'] == run['method']]
    if not rows:
        return None
    named = [row for row in rows if row['stem'] == config.get('recipe_name')]
    row = named[0] if named else max(rows, key=lambda row: _likeness(run, row['settings']))
    paper = row['settings']
    table = [(key, run.get(key, '-'), paper.get(key, '-')) for key in dict.fromkeys([*run, *paper])]
    return Comparison(row['name'], row['result'], [(*cells, cells[1] == cells[2]) for cells in table], bool(named))


@cache
def published_rows() -> list[dict[str, Any]]:
    """The recipes with a published number, from every ``metafile.yml``, with the settings of their configs."""
    folder = config_folder()
    rows = []
    for path in sorted(folder.glob('*/metafile.yml')):
        for model in yaml.safe_load(path.read_text(encoding='utf-8'))['Models']:
            if not model['Results'] or not model['Config'].startswith(f'configs/{path.parent.name}/'):
                continue
            file = folder / model['Config'].removeprefix('configs/')
            result = model['Results'][0]
            number = next(iter(result['Metrics'].items()))
            settings = settings_of(Config.fromfile(file).to_dict(), model['Metadata']['Batch Size'])
            if settings['method'] is None:
                continue
            text = f'{number[0]} {number[1]}, {result["Task"]} on {result["Dataset"]} ({result["Source"]})'
            rows.append(dict(name=model['Name'], stem=file.stem, result=text, settings=settings))
    return rows


def settings_of(config: dict[str, Any], batch_size: int) -> dict[str, str]:
    """What a table of recipes has, in words.

    Args:
        config: The whole config.
        batch_size: Images of one step in all processes.

    Returns:
        Setting and value; ``method`` is None for what has no momentum encoder.
    """
    model = config.get('model') or {}
    preprocessor = model.get('data_preprocessor') or config.get('data_preprocessor') or {}
    dataset = (config.get('train_dataloader') or {}).get('dataset') or {}
    head, crops = model.get('head') or {}, dataset.get('crops') or {}
    found = dict(
        method=_method(model),
        backbone=_backbone(model.get('backbone') or {}),
        images=_images(dataset),
        epochs=_text((config.get('train_cfg') or {}).get('max_epochs')),
        batch=_text(batch_size),
        **_optimizer(config, batch_size),
    )
    found['key momentum'] = _momentum(config, model)
    found['temperature'] = _text(head.get('temperature', 1.0 if head else None))
    if 'queue_len' in model:
        found['queue'] = f'{model["queue_len"]:,} keys'
    found['projector'] = _mlp(model.get('neck') or {})
    if head.get('predictor'):
        found['predictor'] = _mlp(head['predictor'])
    found['crops'] = _crops(crops)
    for number, view in enumerate(preprocessor.get('views') or [], start=1):
        found[f'view {number}'] = _view(view)
    return found


def _method(model: dict[str, Any]) -> str | None:
    kind = str(model.get('type', '')).rpartition('.')[2]
    if kind != 'MoCo':
        return {'MoCoV3': 'MoCo v3', 'MoBY': 'MoBY', 'FastMoCo': 'Fast-MoCo'}.get(kind)
    neck = str((model.get('neck') or {}).get('type', ''))
    version = 'v1' if 'Linear' in neck else 'v2'
    return f'MoCo {version}, symmetric' if model.get('symmetric') else f'MoCo {version}'


def _backbone(backbone: dict[str, Any]) -> str:
    kind = str(backbone.get('type', '?')).rpartition('.')[2]
    arch = backbone.get('arch') or backbone.get('depth') or backbone.get('model_name') or ''
    if isinstance(arch, dict):
        arch = ', '.join(f'{key.removesuffix("_channels")} {value}' for key, value in arch.items())
    parts = [f'{kind} {arch}'.strip()]
    if kind == 'MoCoViT':
        parts += [f'patch {backbone.get("patch_size", 16)}', f'{backbone.get("stem", "patch")} stem']
        if backbone.get('stem', 'patch') == 'patch':
            parts.append('frozen patches' if backbone.get('stop_grad_conv1', True) else 'trained patches')
    return ', '.join(parts)


def _images(dataset: dict[str, Any]) -> str:
    root = str(dataset.get('data_root', '?')).rstrip('/')
    return root.rpartition('/')[2] or '?'


def _optimizer(config: dict[str, Any], batch_size: int) -> dict[str, str]:
    wrapper = config.get('optim_wrapper') or {}
    optimizer = wrapper.get('optimizer') or {}
    scale = config.get('auto_scale_lr') or {}
    lr = optimizer.get('lr')
    found = dict(optimizer=str(optimizer.get('type', '-')))
    if lr is not None:
        base = scale.get('base_batch_size', 256)
        found['peak learning rate'] = _text(lr * batch_size / base if scale.get('enable') else lr)
        found['lr per 256 images'] = _text(lr * (256 / base if scale.get('enable') else 256 / max(batch_size, 1)))
    found['weight decay'] = _text(optimizer.get('weight_decay', 0))
    found['learning rate schedule'] = _schedule(config.get('param_scheduler'))
    clip = (wrapper.get('clip_grad') or {}).get('max_norm')
    return dict(found, **({'clip gradients at': _text(clip)} if clip else {}))


def _schedule(scheduler: object) -> str:
    parts = [part for part in (scheduler if isinstance(scheduler, list) else [scheduler]) if isinstance(part, dict)]
    words = []
    for part in parts:
        kind = str(part.get('type', '?')).rpartition('.')[2]
        if kind == 'WarmupCosineLR':
            per = 'iteration' if part.get('convert_to_iter_based') else 'epoch'
            words.append(f'{part.get("warmup_epochs", 0)} epochs warm-up, cosine per {per}')
        else:
            words.append(f'{kind} {part.get("milestones", "")}'.strip())
    return '; '.join(words) or '-'


def _momentum(config: dict[str, Any], model: dict[str, Any]) -> str:
    default = 0.999 if str(model.get('type', '')).endswith('MoCo') else 0.99
    base = model.get('base_momentum', default)
    hooks = [hook for hook in config.get('custom_hooks') or [] if isinstance(hook, dict)]
    hook = next((hook for hook in hooks if str(hook.get('type', '')).endswith('MomentumUpdateHook')), {})
    return (
        _text(base)
        if hook.get('schedule') == 'constant'
        else f'{_text(base)} to {_text(hook.get("end_momentum", 1.0))}'
    )


def _mlp(config: dict[str, Any]) -> str:
    kind = str(config.get('type', '?')).rpartition('.')[2]
    layers = config.get('num_layers', 2 if kind == 'MoCoV2Neck' else 1)
    widths = [config.get(name) for name in ('in_channels', 'hid_channels', 'out_channels')]
    widths = [widths[0], *[widths[1]] * (layers - 1), widths[2]]
    return '-'.join(str(width) for width in widths if width is not None) or kind


def _crops(crops: dict[str, Any]) -> str:
    scale = crops.get('scale') or (0.08, 1.0)
    kind = str(crops.get('type', '?')).rpartition('.')[2]
    what = 'area' if kind == 'RandomResizedCrops' else f'{kind}, zoom'
    return f'{crops.get("size", "?")} px, {what} {scale[0]:g} to {scale[1]:g}'


def _view(view: dict[str, Any]) -> str:
    jitter = view.get('color_jitter') or {}
    parts = []
    if jitter:
        strengths = '/'.join(f'{jitter.get(name, 0):g}' for name in ('brightness', 'contrast', 'saturation', 'hue'))
        parts.append(f'jitter {strengths} p {view.get("color_jitter_prob", 1.0):g}')
    for name in ('grayscale', 'blur', 'solarize', 'flip'):
        if view.get(f'{name}_prob'):
            parts.append(f'{name} p {view[f"{name}_prob"]:g}')
    return ', '.join(parts) or 'as it is'


def _likeness(one: dict[str, str], other: dict[str, str]) -> float:
    """How many settings agree; the backbone's family counts most."""
    family = str(one['backbone']).split(',')[0] == str(other['backbone']).split(',')[0]
    kind = str(one['backbone']).split()[0] == str(other['backbone']).split()[0]
    return sum(one.get(key) == value for key, value in other.items()) + 10 * family + 10 * kind


def _text(value: object) -> str:
    if value is None:
        return '-'
    return f'{value:,}' if isinstance(value, int) and not isinstance(value, bool) else f'{value:g}'
