"""Backbone and projector of a checkpoint, built anew from what its tensors and metadata say."""

from collections.abc import Mapping
from copy import deepcopy

from torch import Tensor, nn

from mocox.checkpoint import Checkpoint
from mocox.checkpoint.completeness import bounded
from mocox.checkpoint.provenance import BUILT_BY_NAME
from mocox.checkpoint.reading import strip
from mocox.recipe import type_of
from mocox.registry import require_registered

HINT = 'build the backbone from a config: --config CFG'


def backbone_config(checkpoint: Checkpoint, weights: Mapping[str, Tensor], heads: int | None = None) -> dict:
    """The config of a backbone with these tensors.

    Args:
        checkpoint: The file, recognised.
        weights: The tensors of one encoder, under mocox's names.
        heads: Number of attention heads, where the file does not tell.

    Raises:
        ValueError: The tensors do not tell the architecture.
    """
    arch = checkpoint.arch
    if gaps := arch.get('gaps'):
        raise ValueError(f'{checkpoint.path} does not hold a whole backbone: it lacks {bounded(gaps)}')
    if named := checkpoint.meta.get('backbone'):
        if type_of(named) not in BUILT_BY_NAME:
            raise ValueError(f'{checkpoint.path} names a backbone of type {named.get("type")!r}: {HINT}')
        require_registered(named, checkpoint.path)
        return {key: deepcopy(value) for key, value in named.items() if key != 'checkpoint_path'}
    if arch['family'] == 'vit':
        heads = heads or arch.get('num_heads')
        if heads is None:
            raise ValueError(
                f'{checkpoint.path} does not tell its number of attention heads, and tensors do not either: '
                'pass --heads (ViT-S: 12 in MoCo v3, 6 in DeiT and timm) or --config CFG'
            )
        names = ('embed_dims', 'num_layers', 'feedforward_channels')
        settings = dict({name: arch[name] for name in names}, num_heads=heads)
        sizes = dict(patch_size=arch['patch_size'], stem=arch['stem'], in_channels=arch['in_channels'])
        return dict(type='MoCoViT', arch=settings, **sizes)
    if arch['family'] == 'resnet' and arch['depth']:
        width = len(weights['layer1.0.conv1.weight'])
        shape = dict(depth=arch['depth'], stem_channels=arch['width'], base_channels=width)
        shape['in_channels'] = arch['in_channels']
        if arch['bottleneck']:
            shape['expansion'] = len(weights['layer1.0.conv3.weight']) // width
        is_cifar = weights['conv1.weight'].shape[-1] == 3
        return dict(type='mmpretrain.ResNet_CIFAR' if is_cifar else 'mmpretrain.ResNet', **shape)
    raise ValueError(f'{checkpoint.path} has a backbone that tensors alone do not tell ({arch["name"]}): {HINT}')


def projector_of(checkpoint: Checkpoint, which: str) -> nn.Module:
    """The projector of one encoder.

    Raises:
        ValueError: The file has none, or one with other names.
    """
    part = 'momentum_encoder.neck.' if which == 'momentum' and 'momentum' in checkpoint.prefixes else 'neck.'
    tensors = strip(checkpoint.state_dict, part)
    if not tensors:
        raise ValueError(f'{checkpoint.path} has no projector: it is {checkpoint.summary}')
    return build_projector(tensors)


def build_projector(tensors: Mapping[str, Tensor]) -> nn.Module:
    """The projector with these tensors: ``fc0, bn0, fc1, ...`` (v3), ``mlp.0, mlp.2`` (v2) or ``fc`` (v1).

    Raises:
        ValueError: Other names.
    """
    layers = next((names for names in _PROJECTORS if f'{names[0]}.weight' in tensors), None)
    layers = [name for name in layers or [] if f'{name}.weight' in tensors]
    modules: list[nn.Module] = []
    used: set[str] = set()
    for name in layers:
        weight, bias = tensors[f'{name}.weight'], tensors.get(f'{name}.bias')
        modules += [nn.ReLU()] if modules else []
        modules.append(nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None))
        modules[-1].load_state_dict(_below(tensors, name, used))
        norm = name.replace('fc', 'bn')
        if f'{norm}.running_mean' in tensors:
            modules.append(nn.BatchNorm1d(len(weight), affine=f'{norm}.weight' in tensors))
            modules[-1].load_state_dict(_below(tensors, norm, used), strict=f'{norm}.num_batches_tracked' in tensors)
    if not modules or used != set(tensors):
        names = ', '.join(list(tensors)[:6])
        raise ValueError(f'a projector with the tensors {names}, ... is not known: use the backbone')
    return nn.Sequential(*modules)


_PROJECTORS = [[f'fc{i}' for i in range(8)], ['mlp.0', 'mlp.2'], ['fc']]


def _below(tensors: Mapping[str, Tensor], name: str, used: set[str]) -> dict[str, Tensor]:
    found = strip(tensors, f'{name}.')
    used.update(f'{name}.{key}' for key in found)
    return found
