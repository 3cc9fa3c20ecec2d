"""Scale a recipe: one option of the command line changes all settings that must agree with it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mocox.recipe import type_of
from mocox.run.checks import walk

if TYPE_CHECKING:
    from mmengine.config import Config

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def scale(
    config: 'Config',
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    arch: str | None = None,
    lr: float | None = None,
    workers: int | None = None,
) -> None:
    """Change a config in place.

    Args:
        config: Of a training.
        epochs: Warm-up and the steps of the learning rate keep their place in the whole.
        batch_size: Images of one process and step. The learning rate follows in proportion where the config says for
            which batch it is.
        image_size: Side of the crops in pixels; test images are resized in proportion.
        arch: Of the same family as the recipe's: ``tiny`` to ``huge`` for a MoCoViT, ``resnet18`` to ``resnet152``
            for a ResNet, a name of timm for one of timm.
        lr: In the unit of the config: for ``auto_scale_lr.base_batch_size`` images.
        workers: Processes that load images.

    Raises:
        ValueError: A value that cannot be, or a config that has no place for it.
    """
    for name, value, least in (
        ('--epochs', epochs, 1), ('--batch-size', batch_size, 1), ('--image-size', image_size, 1),
        ('--workers', workers, 0),
    ):  # fmt: skip
        if value is not None and value < least:
            raise ValueError(f'{name} must be at least {least}, got {value}')
    if epochs is not None:
        _set_epochs(config, epochs)
    if batch_size is not None:
        _set_batch_size(config, batch_size)
    if image_size is not None:
        _set_image_size(config, image_size)
    if arch is not None:
        _set_arch(config, arch)
    if lr is not None:
        if not lr > 0:
            raise ValueError(f'--lr must be above 0, got {lr}')
        _section(config, '--lr', 'optim_wrapper', 'optimizer')['lr'] = lr
    for name in LOADERS if workers is not None else ():
        if config.get(name):
            config[name]['num_workers'] = workers


def _section(config: 'Config', option: str, *path: str) -> Any:
    found: Any = config
    for name in path:
        found = found.get(name) if hasattr(found, 'get') else None
    if found is None:
        raise ValueError(f'{option}: the config has no {".".join(path)}')
    return found


def _set_epochs(config: 'Config', epochs: int) -> None:
    loop = _section(config, '--epochs', 'train_cfg')
    before, loop['max_epochs'] = loop.get('max_epochs'), epochs
    if not before:
        return
    share = epochs / before
    schedule = config.get('param_scheduler') or []
    for part in schedule if isinstance(schedule, list | tuple) else [schedule]:
        if part.get('warmup_epochs'):
            part['warmup_epochs'] = _share_of(part['warmup_epochs'], share)
        if part.get('milestones'):
            part['milestones'] = [_share_of(epoch, share) for epoch in part['milestones']]
    if loop.get('val_interval', 0) > 1:
        loop['val_interval'] = min(_share_of(loop['val_interval'], share), epochs)


def _share_of(duration: float, share: float) -> int:
    return max(1, round(duration * share))


def _set_batch_size(config: 'Config', batch_size: int) -> None:
    _section(config, '--batch-size', 'train_dataloader')['batch_size'] = batch_size
    rule = config.get('auto_scale_lr') or {}
    if rule.get('base_batch_size'):
        rule['enable'] = True


def _set_image_size(config: 'Config', size: int) -> None:
    from mocox.datasets.resizing import height_and_width  # imports torch

    crops = [part for part in _parts(config) if type_of(part).endswith(('Crops', 'CenterCrop')) and 'size' in part]
    if not crops:
        raise ValueError('--image-size: the config has no crops of a size')
    for part in crops:
        if part.get('resize'):
            before, after = (min(height_and_width(part[key])) for key in ('size', 'resize'))
            part['resize'] = round(after * size / before)
        part['size'] = size
    backbone = (config.get('model') or {}).get('backbone') or {}
    if 'img_size' in backbone or type_of(backbone) == 'MoCoViT':
        backbone['img_size'] = size


def _parts(config: 'Config') -> Iterator[Any]:
    """Every dictionary with a type in the loaders."""
    for name in LOADERS:
        for _, value in walk(config.get(name) or {}):
            if isinstance(value, dict) and 'type' in value:
                yield value


def _set_arch(config: 'Config', arch: str) -> None:
    backbone = _section(config, '--arch', 'model', 'backbone')
    width = _choose_arch(backbone, arch)
    for name in ('neck', 'head'):
        part = config.model.get(name) or {}
        if 'in_channels' in part:
            part['in_channels'] = width


def _choose_arch(backbone: Any, arch: str) -> int:
    """Set the architecture and return the width of the features."""
    kind = type_of(backbone)
    if kind == 'MoCoViT':
        from mocox.models.backbones.vit import ARCHITECTURES

        name = arch.removeprefix('vit-')
        backbone['arch'] = _one_of(name, arch, ARCHITECTURES, 'vision transformers')
        return ARCHITECTURES[name]['embed_dims']
    if kind == 'ResNet':
        widths = {'resnet18': 512, 'resnet34': 512, 'resnet50': 2048, 'resnet101': 2048, 'resnet152': 2048}
        backbone['depth'] = int(_one_of(arch, arch, widths, 'ResNets').removeprefix('resnet'))
        return widths[arch]
    if kind == 'TIMMBackbone':
        import timm
        import torch

        if not timm.is_model(arch):
            raise ValueError(f'--arch {arch}: timm has no such model; timm.list_models() names them')
        backbone['model_name'] = arch
        with torch.device('meta'):
            model = timm.create_model(arch)
        foreign = str(backbone.type).startswith('mmpretrain')  # which gives the map, not what its head makes of it
        # As torch types it, any attribute may be a module.
        return int(str(model.num_features if foreign else model.head_hidden_size))
    raise ValueError(f'--arch: the backbone of this config, {kind}, has no sizes to choose from')


def _one_of(name: str, given: str, known: Any, family: str) -> str:
    if name not in known:
        raise ValueError(
            f'--arch {given}: this recipe is for {family} ({", ".join(known)}); for another family take another '
            'recipe, such as mocov3/resnet18_custom.py or mocov3/vit-tiny_custom.py'
        )
    return name
