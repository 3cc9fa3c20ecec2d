"""Provenance of weights: the metadata beside the tensors, in our terms."""

import ast
import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from mocox.recipe import Recipe, section, type_of
from mocox.version import __version__

IMAGENET = {'mean': [123.675, 116.28, 103.53], 'std': [58.395, 57.12, 57.375], 'channel_order': 'RGB'}
_ALGORITHMS = {'LinearProbe': 'linear', 'MoCoV3': 'self-supervised', 'MoCo': 'self-supervised'}
# mmpretrain's named sizes; a dict says its heads itself, and MoCoViT's names are in its own module.
_MMPRETRAIN_HEADS = {
    **dict.fromkeys(['deit-t', 'deit-tiny'], 3),
    **dict.fromkeys(['deit-s', 'deit-small'], 6),
    **dict.fromkeys(['s', 'small'], 8),
    **dict.fromkeys(['b', 'base', 'deit-b', 'deit-base', 'mocov3-s', 'mocov3-small'], 12),
    **dict.fromkeys(['l', 'large', 'h', 'huge'], 16),
}
MAX_VALUES, MAX_DEPTH = 10**6, 20  # of what a file says of itself
MAX_CONFIG_CHARACTERS = 2**20  # Python's parser takes a hundred times as much memory as a text has; ours have 10,000
TRANSFORMERS = ('MoCoViT', 'MoCoV3ViT', 'VisionTransformer')
RESNETS = ('ResNet', 'ResNet_CIFAR', 'GridPooledResNet')  # plain ones of mmpretrain, and one that pools otherwise
BUILT_BY_NAME = ('TIMMBackbone', *RESNETS)  # backbones whose config says what tensors do not tell
# Of a ResNet, by its tensors.
_UNTOLD = ('strides', 'dilations', 'style', 'avg_down', 'contract_dilation', 'act_cfg', 'grid')
# transformers' names of one function, as `module_activations` says it.
_ACTIVATIONS = {
    **dict.fromkeys(['gelu_new', 'gelu_fast', 'gelu_pytorch_tanh'], 'gelu_pytorch_tanh'),
    'gelu_python': 'gelu',
    'quick_gelu': 'quickgelu',
    'silu': 'swish',
}

_OPTIONAL = ('pixels', 'img_size', 'backbone', 'network', 'folder', 'image_size', 'classes', 'test_crops')

_KINDS_OF = {
    **dict.fromkeys(
        ['kind', 'encoder', 'recipe', 'channel_order', 'activation', 'mocox_version', 'folder', 'network'],
        (str, type(None)),
    ),
    **dict.fromkeys(['epochs', 'heads'], (int, type(None))),
    **dict.fromkeys(['mean', 'std', 'img_size', 'classes'], (list, type(None))),
    **dict.fromkeys(['pixels', 'backbone', 'test_crops'], (dict, type(None))),
    'image_size': (int, type(None)),
}


def provenance(content: Mapping, beside: Mapping, layout: str) -> dict:
    """Return the metadata of a file.

    Returns:
        Any of ``kind, encoder, recipe, epochs, heads, mean, std`` (0..255), ``channel_order, pixels, img_size,
        mocox_version, ...``; absent where the file does not say. ``pixels`` are the settings of
        :class:`mocox.datasets.Pixels`, ``img_size`` height and width of images that are not squares, ``backbone`` is
        the config of one that is built by its name, ``network`` the type of one in a config, ``image_size`` the side of
        its images, ``folder`` that of one of transformers.
    """
    own = content.get('mocox') or beside.get('mocox')
    found = dict(own) if isinstance(own, Mapping) else _from_others(content, beside, layout)
    # An untrusted file may have anything in these places.
    return {
        key: value for key, value in found.items() if isinstance(value, _KINDS_OF.get(key, object)) and _is_small(value)
    }


def _is_small(value: object) -> bool:
    """Tell whether a value can be printed: lists of the same lists, 40 deep, are few bytes in a file and 2^40 words."""
    waiting, num = [(value, 0)], 0
    while waiting and num <= MAX_VALUES:
        item, depth = waiting.pop()
        num += 1
        if isinstance(item, Mapping | list | tuple | set | frozenset):
            if depth >= MAX_DEPTH:
                return False
            parts = [*item, *item.values()] if isinstance(item, Mapping) else item
            waiting += [(part, depth + 1) for part in parts]
    return num <= MAX_VALUES


def _from_others(content: Mapping, beside: Mapping, layout: str) -> dict:
    found: dict[str, Any] = {}
    if layout.startswith('facebookresearch') or content.get('__author__') == 'MOCO':
        found |= IMAGENET
    recipe = _recipe(content)
    if recipe:
        found['recipe'] = recipe
    if isinstance(content.get('epoch'), int):
        found['epochs'] = content['epoch']
    if isinstance(content.get('meta'), Mapping):
        found |= _from_mmengine(content['meta'])
    config, preprocessor = beside.get('config'), beside.get('preprocessor')
    if isinstance(config, Mapping):
        found |= _from_transformers(config) | _from_timm(config)
    if isinstance(preprocessor, Mapping):
        found |= _from_image_processor(preprocessor)
    return found


def _recipe(content: Mapping) -> str | None:
    """The architecture that a file names: in the official and timm's field, or in the arguments of the program."""
    args = content.get('args')
    args = vars(args) if isinstance(args, Namespace) else args if isinstance(args, Mapping) else {}
    named = (content.get('arch'), args.get('arch'), args.get('model'))
    return next((name for name in named if isinstance(name, str) and name), None)


def _from_transformers(config: Mapping) -> dict:
    found = {'heads': config['num_attention_heads']} if 'num_attention_heads' in config else {}
    activation = 'silu' if config.get('use_swiglu_ffn') else config.get('hidden_act')  # DINOv2's gates have no choice
    return found | ({'activation': _ACTIVATIONS.get(activation, activation)} if isinstance(activation, str) else {})


def _from_timm(config: Mapping) -> dict:
    """``config.json`` of timm's hub: constants in 0..1, in ``pretrained_cfg`` or, in older ones, beside the rest."""
    if not isinstance(config.get('architecture'), str):
        return {}
    pretrained = config.get('pretrained_cfg')
    constants = {**config, **(pretrained if isinstance(pretrained, Mapping) else {})}
    return {'recipe': config['architecture'], **_scaled(constants.get('mean'), constants.get('std'), 255)}


def _from_image_processor(config: Mapping) -> dict:
    """``preprocessor_config.json`` of transformers: values times rescale_factor, less image_mean, by image_std."""
    factor = config.get('rescale_factor', 1 / 255) if config.get('do_rescale', True) else 1
    if not isinstance(factor, int | float) or not factor:
        return {}
    if not config.get('do_normalize', True):
        return _scaled([0, 0, 0], [1, 1, 1], 1 / factor)
    return _scaled(config.get('image_mean'), config.get('image_std'), 1 / factor)


def _scaled(mean: object, std: object, scale: float) -> dict:
    values = [[round(x * scale, 6) for x in v] for v in (mean, std) if _is_numbers(v)]
    return {'mean': values[0], 'std': values[1], 'channel_order': 'RGB'} if len(values) == 2 else {}


def _is_numbers(value: object) -> TypeGuard[Sequence[float]]:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(x, int | float) for x in value)


def stamp(kind: str, encoder: str, arch: Mapping, meta: Mapping) -> dict:
    """The metadata of a file we write."""
    keys = ('recipe', 'epochs', 'mean', 'std', 'channel_order', 'activation')
    return {
        'kind': kind,
        'encoder': encoder,
        'architecture': arch['name'],
        'heads': arch.get('num_heads'),
        **{key: meta.get(key) for key in keys},
        **{key: meta[key] for key in _OPTIONAL if meta.get(key)},
        'mocox_version': __version__,
    }


def _from_mmengine(meta: Mapping) -> dict:
    found = {'epochs': meta['epoch']} if isinstance(meta.get('epoch'), int) else {}
    if isinstance(meta.get('experiment_name'), str):
        found['recipe'] = re.sub(r'_\d{8}_\d{6}$', '', meta['experiment_name'])
    config = parse_config(meta.get('cfg'))
    recipe = Recipe(config)
    kind = _ALGORITHMS.get(recipe.method)
    return {
        **found,
        **({'kind': kind} if kind else {}),
        **({'heads': heads} if (heads := _heads(recipe.backbone)) else {}),
        **({'pixels': dict(pixels)} if (pixels := section(meta, 'dataset_meta', 'pixels')) else {}),
        **({'img_size': size} if (size := oblong(recipe.backbone.get('img_size'))) else {}),
        **_normalisation(recipe.preprocessor),
        **({'network': name} if (name := type_of(recipe.backbone)) else {}),
        **_by_name(recipe),
        **_crop_size(recipe),
        **_classification(meta, recipe),
    }


def oblong(size: object) -> list[int] | None:
    """Height and width of images that are not squares: the number of patches does not tell these."""
    pair = size if isinstance(size, list | tuple) and len(size) == 2 else (0, 0)
    return list(pair) if all(type(side) is int and side > 0 for side in pair) and pair[0] != pair[1] else None


def _heads(backbone: Mapping) -> int | None:
    arch = backbone.get('arch')
    if isinstance(arch, Mapping):
        return arch.get('num_heads')
    if not isinstance(arch, str | None):
        return None
    if type_of(backbone) == 'MoCoViT':
        from mocox.models.backbones.vit import ARCHITECTURES

        return ARCHITECTURES.get(arch or 'small', {}).get('num_heads')
    return _MMPRETRAIN_HEADS.get(arch or '') if type_of(backbone) in TRANSFORMERS[1:] else None


def _by_name(recipe: Recipe) -> dict:
    """The config of a backbone that its tensors do not tell; of one of transformers its folder, never opened."""
    if type_of(recipe.backbone) == 'TransformersBackbone':
        return {'folder': str(recipe.backbone.get('folder'))}
    if type_of(recipe.backbone) not in BUILT_BY_NAME:
        return {}
    if type_of(recipe.backbone) in RESNETS and not untold(recipe.backbone):
        return {}
    loaded = ('init_cfg', 'pretrained', 'checkpoint_path')  # what it began with is over
    return {'backbone': {key: value for key, value in recipe.backbone.items() if key not in loaded}}


def untold(backbone: Mapping) -> dict:
    """Settings of a ResNet's config that its tensors do not show, such as the strides of its stages."""
    return {key: backbone[key] for key in _UNTOLD if key in backbone} if type_of(backbone) in RESNETS else {}


def _crop_size(recipe: Recipe) -> dict:
    """Size of the training images of a backbone that takes any size; transformers tell it by position embedding."""
    name = type_of(recipe.backbone)
    if name in TRANSFORMERS or (recipe.is_labelled and name not in BUILT_BY_NAME):
        return {}
    size = recipe.crops.get('size')
    pair = oblong(size)
    return {'img_size': pair} if pair else {'image_size': size} if type(size) is int and size > 0 else {}


def _classification(meta: Mapping, recipe: Recipe) -> dict:
    """Names of the classes, and crops of the test images, of a run with labels."""
    names, crops = section(meta, 'dataset_meta').get('classes'), recipe.test_crops
    found: dict[str, Any] = {}
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names) and recipe.is_labelled:
        found['classes'] = list(names)
    sizes = {key: crops[key] for key in ('size', 'resize') if _is_size(crops.get(key))}
    if recipe.is_labelled and type_of(crops) == 'CenterCrop' and 'size' in sizes:
        way = crops.get('interpolation')
        found['test_crops'] = sizes | ({'interpolation': way} if isinstance(way, str) else {})
    return found


def _is_size(value: object) -> bool:
    sides = value if isinstance(value, list | tuple) and len(value) == 2 else [value]
    return all(type(side) is int and 0 < side <= 8192 for side in sides)


def _normalisation(preprocessor: Mapping) -> dict:
    if not preprocessor.get('mean'):
        return {}
    ours = type_of(preprocessor) in ('ViewsPreprocessor', 'LabelledPreprocessor')  # these always see RGB
    rgb = ours or preprocessor.get('to_rgb') or preprocessor.get('bgr_to_rgb')
    values = {key: preprocessor[key] for key in ('mean', 'std') if preprocessor.get(key)}
    return {**values, 'channel_order': 'RGB' if rgb else 'BGR'}


def parse_config(text: object) -> dict:
    """Parse the literals of a config kept as Python text. Nothing is executed: the text is untrusted."""
    try:
        statements = ast.parse(text).body if isinstance(text, str) and len(text) <= MAX_CONFIG_CHARACTERS else []
        assigned = [(s.targets[0], s.value) for s in statements if isinstance(s, ast.Assign)]
        return {target.id: _literal(value) for target, value in assigned if isinstance(target, ast.Name)}
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last one where it is nested too deeply
        return {}


def _literal(node: ast.expr) -> object:
    match node:
        case ast.Call(func=ast.Name(id='dict')):
            return {keyword.arg: _literal(keyword.value) for keyword in node.keywords}
        case ast.Dict():
            pairs = zip(node.keys, node.values)
            return {key.value: _literal(value) for key, value in pairs if isinstance(key, ast.Constant)}
        case ast.List() | ast.Tuple():
            return [_literal(item) for item in node.elts]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Constant():
            return node.value
    return None
