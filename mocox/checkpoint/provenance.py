"""Where weights come from: what stands beside the tensors, in our words."""

import ast
import re
from collections.abc import Mapping

from mocox.recipe import Recipe, type_of
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

_KINDS_OF = {
    **dict.fromkeys(['kind', 'encoder', 'recipe', 'channel_order', 'mocox_version'], (str, type(None))),
    **dict.fromkeys(['epochs', 'heads'], (int, type(None))),
    **dict.fromkeys(['mean', 'std'], (list, type(None))),
}


def provenance(content: Mapping, beside: Mapping, layout: str) -> dict:
    """Everything a file says about itself.

    Returns:
        Any of ``kind, encoder, recipe, epochs, heads, mean, std`` (0..255), ``channel_order, mocox_version, ...``;
        absent where the file does not say.
    """
    own = content.get('mocox') or beside.get('mocox')
    found = dict(own) if isinstance(own, Mapping) else _from_others(content, beside, layout)
    # A stranger's file may have anything in these places.
    return {key: value for key, value in found.items() if isinstance(value, _KINDS_OF.get(key, object))}


def _from_others(content: Mapping, beside: Mapping, layout: str) -> dict:
    found = {}
    if layout.startswith('facebookresearch'):
        found |= IMAGENET
    if isinstance(content.get('arch'), str):
        found['recipe'] = content['arch']
    if isinstance(content.get('epoch'), int):
        found['epochs'] = content['epoch']
    if isinstance(content.get('meta'), Mapping):
        found |= _from_mmengine(content['meta'])
    if isinstance(beside.get('config'), Mapping) and 'num_attention_heads' in beside['config']:
        found['heads'] = beside['config']['num_attention_heads']
    return found


def stamp(kind: str, encoder: str, arch: Mapping, meta: Mapping) -> dict:
    """The metadata of a file we write."""
    keys = ('recipe', 'epochs', 'mean', 'std', 'channel_order')
    return {
        'kind': kind,
        'encoder': encoder,
        'architecture': arch['name'],
        'heads': arch.get('num_heads'),
        **{key: meta.get(key) for key in keys},
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
        **_normalisation(recipe.preprocessor),
    }


def _heads(backbone: Mapping) -> int | None:
    arch = backbone.get('arch')
    if isinstance(arch, Mapping):
        return arch.get('num_heads')
    if not isinstance(arch, str | None):
        return None
    if type_of(backbone) == 'MoCoViT':
        from mocox.models.backbones.vit import ARCHITECTURES

        return ARCHITECTURES.get(arch or 'small', {}).get('num_heads')
    return _MMPRETRAIN_HEADS.get(arch) if type_of(backbone) in ('VisionTransformer', 'MoCoV3ViT') else None


def _normalisation(preprocessor: Mapping) -> dict:
    if not preprocessor.get('mean'):
        return {}
    rgb = type_of(preprocessor) in ('ViewsPreprocessor', 'LabelledPreprocessor')  # these always see RGB
    rgb = rgb or preprocessor.get('to_rgb') or preprocessor.get('bgr_to_rgb')
    values = {key: preprocessor[key] for key in ('mean', 'std') if preprocessor.get(key)}
    return {**values, 'channel_order': 'RGB' if rgb else 'BGR'}


def parse_config(text: object) -> dict:
    """The literals of a config kept as Python text. Nothing is executed: the text comes out of a stranger's file."""
    try:
        statements = ast.parse(text).body if isinstance(text, str) else []
        assigned = [s for s in statements if isinstance(s, ast.Assign) and isinstance(s.targets[0], ast.Name)]
        return {statement.targets[0].id: _literal(statement.value) for statement in assigned}
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
