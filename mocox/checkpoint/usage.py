"""The line of code that loads a written checkpoint into a model of another library."""

from collections.abc import Callable, Mapping

from torch import Tensor

_TIMM_VITS = {192: 'vit_tiny', 384: 'vit_small', 768: 'vit_base', 1024: 'vit_large'}


def timm_arguments(arch: Mapping) -> tuple[str, dict]:
    """Model name and keyword arguments with which ``timm.create_model`` builds the architecture."""
    kwargs = {'num_classes': arch.get('num_classes', 0)}
    if arch.get('in_channels', 3) != 3:
        kwargs['in_chans'] = arch['in_channels']
    if arch['family'] != 'vit':
        return (f'resnet{arch["depth"]}' if arch.get('depth') else '<the same model>'), kwargs
    base = _TIMM_VITS.get(arch['embed_dims'], 'vit_base')
    if arch['num_heads']:
        kwargs['num_heads'] = arch['num_heads']
    side = arch.get('img_size') or (arch['grid'] and arch['grid'] * arch['patch_size'])
    wanted = {
        'embed_dim': (arch['embed_dims'], {name: width for width, name in _TIMM_VITS.items()}[base]),
        'depth': (arch['num_layers'], 24 if base == 'vit_large' else 12),
        'patch_size': (arch['patch_size'], 16),
        'img_size': (side, 224),
        'mlp_ratio': (arch['feedforward_channels'] / arch['embed_dims'], 4),
    }
    return f'{base}_patch16_224', kwargs | {
        k: value for k, (value, usual) in wanted.items() if value not in (None, usual)
    }


def _timm_usage(arch: Mapping, path: str) -> str:
    name, kwargs = timm_arguments(arch)
    words = [repr(name), *(f'{key}={value!r}' for key, value in kwargs.items()), f'checkpoint_path={path!r}']
    if arch.get('stem') == 'conv':
        words.append("embed_layer=functools.partial(mocox.models.backbones.vit.ConvStem, norm_cfg=dict(type='BN'))")
    return f'timm.create_model({", ".join(words)})'


def shape_of(backbone: Mapping[str, Tensor], arch: Mapping) -> dict:
    """Class of a ResNet in mmpretrain, and its arguments for widths that the depth does not imply."""
    if arch['family'] != 'resnet':
        return {}
    width = len(backbone['layer1.0.conv1.weight'])
    ratio = len(backbone['layer1.0.conv3.weight']) // width if arch['bottleneck'] else 1
    is_cifar = backbone['conv1.weight'].shape[-1] == 3
    usual = dict(stem_channels=64, base_channels=64, expansion=4 if arch['bottleneck'] else 1)
    found = dict(stem_channels=arch['width'], base_channels=width, expansion=ratio)
    return {'shape': {key: value for key, value in found.items() if value != usual[key]}, 'is_cifar': is_cifar}


def _words(settings: Mapping) -> str:
    return ', '.join(f'{key}={value!r}' for key, value in settings.items())


def _resnet_config(arch: Mapping) -> str:
    name = 'ResNet_CIFAR' if arch.get('is_cifar') else 'ResNet'
    return _words({'type': f'mmpretrain.{name}', 'depth': arch.get('depth') or '...'} | arch.get('shape', {}))


def _vit_sizes(arch: Mapping) -> dict:
    return {key: arch.get(key) for key in ('embed_dims', 'num_layers', 'num_heads', 'feedforward_channels')}


def _side(arch: Mapping) -> object:
    return arch['grid'] * arch['patch_size'] if arch.get('grid') else arch.get('img_size') or '...'


def _mm_usage(vit: str) -> Callable[[Mapping, str], str]:
    def usage(arch: Mapping, path: str) -> str:
        backbone = _resnet_config(arch)
        if arch['family'] == 'vit':
            backbone = vit.format(**{**arch, 'arch': _vit_sizes(arch), 'img_size': _side(arch)})
        if (count := arch.get('in_channels', 3)) != 3:
            backbone += f', in_channels={count}'
        return f"backbone=dict({backbone}, init_cfg=dict(type='Pretrained', checkpoint={path!r}, prefix='backbone.'))"

    return usage


def _mocox_usage(arch: Mapping, path: str) -> str:
    settings = dict(arch.get('backbone') or {})
    if settings:
        backbone = _words(settings)
    elif arch['family'] == 'resnet' and arch.get('depth'):
        backbone = _resnet_config(arch)
    elif arch['family'] == 'vit':
        sizes = {'arch': _vit_sizes(arch), 'img_size': _side(arch), 'patch_size': arch['patch_size']}
        stem = {'stem': 'conv'} if arch.get('stem') == 'conv' else {}
        backbone = _words({'type': 'mocox.MoCoViT'} | sizes | stem)
    else:
        return f"the config of this backbone with init_cfg=dict(type='mocox.Pretrained', checkpoint={path!r})"
    if (count := arch.get('in_channels', 3)) != 3 and not settings:
        backbone += f', in_channels={count}'
    return f"backbone=dict({backbone}, init_cfg=dict(type='mocox.Pretrained', checkpoint={path!r}))"


def _torchvision_usage(arch: Mapping, path: str) -> str:
    is_resnet = arch['family'] == 'resnet'
    classes = {'num_classes': arch['num_classes']} if arch['num_classes'] else {}
    if is_resnet and (arch['shape'] or arch['is_cifar'] or not arch.get('depth')):
        return f'torchvision has no {arch["name"]} of these widths: for a model of yours with {path}'
    if is_resnet:
        built = f'torchvision.models.resnet{arch["depth"]}({_words(classes)})'
    else:
        sizes = {'image_size': _side(arch), 'patch_size': arch['patch_size'], 'num_layers': arch['num_layers']}
        sizes |= {'num_heads': arch['num_heads'] or '...', 'hidden_dim': arch['embed_dims']}
        sizes |= {'mlp_dim': arch['feedforward_channels']}
        built = f'torchvision.models.VisionTransformer({_words(sizes | classes)})'
    steps = [f'model = {built}']
    if (count := arch.get('in_channels', 3)) != 3:  # torchvision cannot be told otherwise
        width, patch = arch.get('embed_dims'), arch.get('patch_size')
        steps.append(
            f'model.conv1 = torch.nn.Conv2d({count}, {arch["width"]}, 7, 2, 3, bias=False)'
            if is_resnet
            else f'model.conv_proj = torch.nn.Conv2d({count}, {width}, {patch}, {patch})'
        )
    if not classes:
        steps.append(f'model.{"fc" if is_resnet else "heads"} = torch.nn.Identity()')
    tensors = f"torch.load({path!r})['state_dict']"
    if path.endswith('.safetensors'):
        tensors = f'safetensors.torch.load_file({path!r})'
    return '; '.join([*steps, f'model.load_state_dict({tensors})'])


USAGE: dict[str, Callable[[Mapping, str], str]] = {
    'openmmlab': _mm_usage(
        "type='mmpretrain.VisionTransformer', arch={arch}, img_size={img_size}, patch_size={patch_size}"
    ),
    'mmseg': _mm_usage(
        "type='mmseg.VisionTransformer', embed_dims={embed_dims}, num_layers={num_layers}, num_heads={num_heads}, "
        "img_size={img_size}, patch_size={patch_size}, final_norm=True, norm_cfg=dict(type='LN', eps=1e-6)"
    ),
    'timm': _timm_usage,
    'torchvision': _torchvision_usage,
    'transformers': lambda arch, path: f'transformers.ViTModel.from_pretrained({path!r}, add_pooling_layer=False)',
    'official': lambda arch, path: 'a linear-evaluation file in the official format',
    'mocox': _mocox_usage,
}
