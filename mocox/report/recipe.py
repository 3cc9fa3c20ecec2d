"""The recipe of a run beside the closest row of the paper's table."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from mocox.augment.options import LAST, STRENGTHS
from mocox.configs import open_config, published_models, shipped_config
from mocox.recipe import Recipe, argument, section, type_of
from mocox.registry import HOOKS


@dataclass
class Comparison:
    """A run's settings beside a published recipe's.

    Args:
        name: Name of the recipe, that of its config.
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
    """The published recipe with the name of the run's config, else the most similar one.

    None for what is not pre-training by MoCo.
    """
    run = settings_of(Recipe(config, world_size))
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
    rows = []
    for model in published_models():
        result = model['Results'][0]
        if result['Task'] != 'Linear evaluation':  # of a backbone that is trained further
            continue
        file = shipped_config(model['Config'].removeprefix('configs/'))
        number = next(iter(result['Metrics'].items()))
        config = open_config(file).to_dict()
        processes = model['Metadata']['Batch Size'] // config['train_dataloader']['batch_size']
        text = f'{number[0]} {number[1]}, {result["Task"]} on {result["Dataset"]} ({result["Source"]})'
        settings = settings_of(Recipe(config, processes))
        rows.append(dict(name=model['Name'], stem=file.stem, result=text, settings=settings))
    return rows


def settings_of(recipe: Recipe) -> dict[str, str]:
    """The settings of a run that a table of recipes lists, in words.

    Returns:
        Setting and value; ``method`` is None for what has no momentum encoder.
    """
    found: dict[str, Any] = dict(
        method=method_of(recipe),
        backbone=_backbone(recipe.backbone),
        images=_images(recipe.dataset),
        epochs=_text(recipe.epochs),
        batch=_text(recipe.batch_size),
        **_optimizer(recipe),
    )
    found['key momentum'] = _momentum(recipe)
    found['temperature'] = _text(recipe.temperature)
    if recipe.queue_len is not None:
        found['queue'] = f'{recipe.queue_len:,} keys'
    found['projector'] = _mlp(section(recipe.model, 'neck'))
    if recipe.head.get('predictor'):
        found['predictor'] = _mlp(recipe.head['predictor'])
    found['crops'] = _crops(recipe)
    for number, view in enumerate(recipe.views, start=1):
        found[f'view {number}'] = _view(view)
    return found


def method_of(recipe: Recipe) -> str | None:
    """The algorithm's name in its paper; None for a model without momentum encoder."""
    if recipe.method != 'MoCo':
        return {'MoCoV3': 'MoCo v3', 'MoBY': 'MoBY', 'FastMoCo': 'Fast-MoCo'}.get(recipe.method)
    version = 'v1' if 'Linear' in type_of(section(recipe.model, 'neck')) else 'v2'
    return f'MoCo {version}, symmetric' if recipe.model.get('symmetric') else f'MoCo {version}'


def _backbone(backbone: Mapping[str, Any]) -> str:
    kind = type_of(backbone) or '?'
    arch = backbone.get('arch') or backbone.get('depth') or backbone.get('model_name') or ''
    if isinstance(arch, dict):
        arch = ', '.join(f'{key.removesuffix("_channels")} {value}' for key, value in sorted(arch.items()))
    parts = [f'{kind} {arch}'.strip()]
    if kind == 'MoCoViT':
        stem = argument(backbone, 'stem')
        parts += [f'patch {argument(backbone, "patch_size")}', f'{stem} stem']
        if stem == 'patch':
            parts.append('frozen patches' if argument(backbone, 'stop_grad_conv1') else 'trained patches')
    return ', '.join(parts)


def _images(dataset: Mapping[str, Any]) -> str:
    root = str(dataset.get('data_root', '?')).rstrip('/')
    return root.rpartition('/')[2] or '?'


def _optimizer(recipe: Recipe) -> dict[str, str]:
    optimizer, lr = recipe.optimizer, recipe.peak_lr
    found = dict(optimizer=str(optimizer.get('type', '-')))
    if lr is not None:
        found['peak learning rate'] = _text(lr)
        found['lr per 256 images'] = _text(lr * 256 / recipe.batch_size)
    found['weight decay'] = _text(optimizer.get('weight_decay', 0))
    found['learning rate schedule'] = _schedule(recipe.config.get('param_scheduler'))
    clip = section(recipe.optim_wrapper, 'clip_grad').get('max_norm')
    return dict(found, **({'clip gradients at': _text(clip)} if clip else {}))


def _schedule(scheduler: object) -> str:
    parts = [part for part in (scheduler if isinstance(scheduler, list) else [scheduler]) if isinstance(part, dict)]
    words = []
    for part in parts:
        kind = type_of(part) or '?'
        if kind == 'WarmupCosineLR':
            per = 'iteration' if part.get('convert_to_iter_based') else 'epoch'
            words.append(f'{part.get("warmup_epochs", 0)} epochs warm-up, cosine per {per}')
        else:
            words.append(f'{kind} {part.get("milestones", "")}'.strip())
    return '; '.join(words) or '-'


def _momentum(recipe: Recipe) -> str:
    hooks = [hook for hook in recipe.config.get('custom_hooks') or [] if isinstance(hook, Mapping)]
    hook = next((hook for hook in hooks if type_of(hook) == 'MomentumUpdateHook'), dict(type='MomentumUpdateHook'))
    base = _text(recipe.momentum)
    if argument(hook, 'schedule', HOOKS) == 'constant':
        return base
    return f'{base} to {_text(argument(hook, "end_momentum", HOOKS))}'


def _mlp(config: Mapping[str, Any]) -> str:
    kind = type_of(config) or '?'
    layers = argument(config, 'num_layers') or (2 if kind == 'MoCoV2Neck' else 1)
    widths = [config.get(name) for name in ('in_channels', 'hid_channels', 'out_channels')]
    widths = [widths[0], *[widths[1]] * (layers - 1), widths[2]]
    return '-'.join(str(width) for width in widths if width is not None) or kind


def _crops(recipe: Recipe) -> str:
    kind, scale = type_of(recipe.crops) or '?', recipe.crop_scale
    side = recipe.crops.get('size', '?')
    size = f'{" x ".join(map(str, side)) if isinstance(side, list | tuple) else side} px'
    if scale is None:
        return f'{size}, {kind}'
    what = 'area' if kind == 'RandomResizedCrops' else f'{kind}, zoom'
    return f'{size}, {what} {scale[0]:g} to {scale[1]:g}'


def _view(view: Mapping[str, Any]) -> str:
    jitter = view.get('color_jitter') or {}
    parts = []
    if jitter:
        strengths = '/'.join(f'{jitter.get(name, 0):g}' for name in ('brightness', 'contrast', 'saturation', 'hue'))
        parts.append(f'jitter {strengths} p {view.get("color_jitter_prob", 1.0):g}')
    for name, known in STRENGTHS.items():
        if chosen := view.get(name):
            strengths = '/'.join(f'{chosen.get(key, 0):g}' for key in known)
            parts.append(f'{name.replace("_", " ")} {strengths} p {view.get(f"{name}_prob", 1.0):g}')
    for name in ('grayscale', 'blur', 'solarize', 'flip', *LAST):
        if view.get(f'{name}_prob'):
            parts.append(f'{name.replace("_", " ")} p {view[f"{name}_prob"]:g}')
    return ', '.join(parts) or 'as it is'


def _likeness(one: dict[str, str], other: dict[str, str]) -> float:
    """Number of settings that agree; the backbone's family counts most."""
    family = str(one['backbone']).split(',')[0] == str(other['backbone']).split(',')[0]
    kind = str(one['backbone']).split()[0] == str(other['backbone']).split()[0]
    return sum(one.get(key) == value for key, value in other.items()) + 10 * family + 10 * kind


def _text(value: object) -> str:
    if value is None:
        return '-'
    return f'{value:,}' if isinstance(value, int) and not isinstance(value, bool) else f'{value:g}'
