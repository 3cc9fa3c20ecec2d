"""The line of code that loads a written checkpoint into a model of another library."""

from collections.abc import Callable, Mapping

from torch import Tensor

from mocox.recipe import type_of

_TIMM_VITS = {192: 'vit_tiny', 384: 'vit_small', 768: 'vit_base', 1024: 'vit_large'}
# Arguments of TIMMBackbone that timm.create_model does not have, or calls otherwise.
_OF_OURS = ('type', 'model_name', 'init_cfg', 'stop_grad_conv1', 'features_only', 'pretrained', 'checkpoint_path')


def timm_arguments(arch: Mapping) -> tuple[str, dict]:
    """Model name and keyword arguments with which ``timm.create_model`` builds the architecture.

    Raises:
        ValueError: Maps of several depths are a part of a model.
    """
    kwargs = {'num_classes': arch.get('num_classes', 0)}
    if type_of(settings := arch.get('backbone') or {}) == 'TIMMBackbone':
        return settings['model_name'], kwargs | _own_arguments(settings)
    if arch.get('in_channels', 3) != 3:
        kwargs['in_chans'] = arch['in_channels']
    if arch['family'] != 'vit':
        return (f'resnet{arch["depth"]}' if arch.get('depth') else '<the same model>'), kwargs
    base, usual = _timm_vit(arch)
    if arch['num_heads']:
        kwargs['num_heads'] = arch['num_heads']
    side = arch.get('img_size') or (arch['grid'] and arch['grid'] * arch['patch_size'])
    wanted = {
        'embed_dim': arch['embed_dims'],
        'depth': arch['num_layers'],
        'patch_size': arch['patch_size'],
        'img_size': None if arch.get('dinov3') else side,
        'mlp_ratio': arch['feedforward_channels'] / arch['embed_dims'],
        'global_pool': 'token' if arch.get('folder') else None,  # that of TransformersBackbone
    }
    return base, kwargs | {key: value for key, value in wanted.items() if value not in (None, usual[key])}


def _timm_vit(arch: Mapping) -> tuple[str, dict]:
    """The model of timm with these parts that is nearest in width, and its sizes by the names of its arguments."""
    width = arch['embed_dims'] if arch['embed_dims'] in _TIMM_VITS else 768
    size, tiny = _TIMM_VITS[width], width == 192
    usual = dict(
        embed_dim=width,
        depth=24 if width == 1024 else 12,
        patch_size=16,
        img_size=224,
        mlp_ratio=4,
        global_pool='token',
    )
    if arch.get('dinov3') or arch.get('layer_scale'):  # of these timm has no tiny ones
        size, usual['embed_dim'] = ('vit_small', 384) if tiny else (size, width)
    if arch.get('dinov3'):
        return f'{size}_patch16_dinov3' + '_qkvb' * bool(arch.get('qv_bias')), dict(usual, global_pool='avg')
    if arch.get('layer_scale'):
        registers = '_reg4' * bool(arch.get('registers'))
        return f'{size}_patch14{registers}_dinov2', dict(usual, patch_size=14, img_size=518)
    return f'{size}_patch16_224', usual


def _own_arguments(settings: Mapping) -> dict:
    """Keyword arguments of ``timm.create_model`` in a config of TIMMBackbone."""
    if settings.get('features_only'):
        raise ValueError('features_only=True is a part of the model, which timm.create_model names otherwise')
    found = {key: value for key, value in settings.items() if key not in _OF_OURS and value is not None}
    if 'in_channels' in found:
        found['in_chans'] = found.pop('in_channels')
    if str(found.get('norm_layer')).endswith('BN'):  # BatchNorm, however it is spread over processes and groups
        del found['norm_layer']
    return found


def classifier_name(arch: Mapping) -> str | None:
    """Name of the classifier in the model of a TIMMBackbone; None for other backbones."""
    settings = arch.get('backbone') or {}
    if type_of(settings) != 'TIMMBackbone':
        return None
    import timm

    config = timm.get_pretrained_cfg(settings['model_name'], allow_unregistered=True)
    name = config.classifier if config else None
    return name if isinstance(name, str) else None


def from_folder(folder: object, path: str) -> str:
    """The line for a model of transformers whose config is in the folder that it was trained from."""
    config = f'transformers.AutoConfig.from_pretrained({folder!r})'
    return f'transformers.AutoModel.from_pretrained({path!r}, config={config})'


def _timm_usage(arch: Mapping, path: str) -> str:
    if type_of(arch.get('backbone') or {}) != 'TIMMBackbone' and _is_unusual(arch):
        count = arch.get('in_channels', 3)
        inputs = f', in_chans={count},' if count != 3 else ''
        return f'timm has no {arch["name"]} with this stem: for a model of yours{inputs} with {path}'
    name, kwargs = timm_arguments(arch)
    words = [repr(name), *(f'{key}={value!r}' for key, value in kwargs.items()), f'checkpoint_path={path!r}']
    if arch.get('stem') == 'conv':
        words.append("embed_layer=functools.partial(mocox.models.backbones.vit.ConvStem, norm_cfg=dict(type='BN'))")
    return f'timm.create_model({", ".join(words)})'


def shape_of(backbone: Mapping[str, Tensor], arch: Mapping) -> dict:
    """Sizes and parts that the name of an architecture does not tell.

    Of a ViT, whether queries and values have biases of their own; of a ResNet, widths, as arguments of mmpretrain's
    class, and whose class it is.
    """
    if arch['family'] != 'resnet':
        return {'qv_bias': 'blocks.0.attn.q_bias' in backbone}
    width = len(backbone['layer1.0.conv1.weight'])
    ratio = len(backbone['layer1.0.conv3.weight']) // width if arch['bottleneck'] else 1
    is_cifar = backbone['conv1.weight'].shape[-1] == 3
    usual = dict(stem_channels=64, base_channels=64, expansion=4 if arch['bottleneck'] else 1)
    found = dict(stem_channels=arch['width'], base_channels=width, expansion=ratio)
    return {'shape': {key: value for key, value in found.items() if value != usual[key]}, 'is_cifar': is_cifar}


def _is_unusual(arch: Mapping) -> bool:
    """True for a ResNet of other widths or with the stem for small images, which only mmpretrain builds."""
    return bool(arch.get('shape') or arch.get('is_cifar'))


def as_arguments(settings: Mapping) -> str:
    """Settings as the arguments of a call."""
    return ', '.join(f'{key}={value!r}' for key, value in settings.items())


def _resnet_config(arch: Mapping) -> str:
    name = 'ResNet_CIFAR' if arch.get('is_cifar') else 'ResNet'
    return as_arguments({'type': f'mmpretrain.{name}', 'depth': arch.get('depth') or '...'} | arch.get('shape', {}))


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
        backbone = as_arguments(settings)
    elif arch['family'] == 'resnet' and arch.get('depth'):
        backbone = _resnet_config(arch)
    elif arch['family'] == 'vit' and not arch.get('folder'):
        sizes = {'arch': _vit_sizes(arch), 'img_size': _side(arch), 'patch_size': arch['patch_size']}
        stem = {'stem': 'conv'} if arch.get('stem') == 'conv' else {}
        backbone = as_arguments({'type': 'mocox.MoCoViT'} | sizes | stem)
    elif arch.get('folder'):
        backbone = as_arguments({'type': 'mocox.TransformersBackbone', 'folder': arch['folder'], 'pretrained': False})
    else:
        return f"the config of this backbone with init_cfg=dict(type='mocox.Pretrained', checkpoint={path!r})"
    if (count := arch.get('in_channels', 3)) != 3 and not settings:
        backbone += f', in_channels={count}'
    return f"backbone=dict({backbone}, init_cfg=dict(type='mocox.Pretrained', checkpoint={path!r}))"


def _torchvision_usage(arch: Mapping, path: str) -> str:
    is_resnet = arch['family'] == 'resnet'
    classes = {'num_classes': arch['num_classes']} if arch['num_classes'] else {}
    if is_resnet and (_is_unusual(arch) or not arch.get('depth')):
        return f'torchvision has no {arch["name"]} of these widths: for a model of yours with {path}'
    if is_resnet:
        built = f'torchvision.models.resnet{arch["depth"]}({as_arguments(classes)})'
    else:
        sizes = {'image_size': _side(arch), 'patch_size': arch['patch_size'], 'num_layers': arch['num_layers']}
        sizes |= {'num_heads': arch['num_heads'] or '...', 'hidden_dim': arch['embed_dims']}
        sizes |= {'mlp_dim': arch['feedforward_channels']}
        built = f'torchvision.models.VisionTransformer({as_arguments(sizes | classes)})'
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
