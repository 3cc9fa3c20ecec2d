"""Infer the architecture of a backbone from its tensors."""

import re
from collections.abc import Collection, Iterable, Mapping
from math import isqrt

from torch import Tensor, nn

from mocox.checkpoint import names
from mocox.checkpoint.dino import has_layer_scale, is_dinov3

VIT_SIZES = {192: 'Ti', 384: 'S', 768: 'B', 1024: 'L', 1280: 'H'}
_RESNETS: dict[tuple[int, ...], int] = {  # blocks of each stage, bottlenecks
    (2, 2, 2, 2, False): 18,
    (3, 4, 6, 3, False): 34,
    (3, 4, 6, 3, True): 50,
    (3, 4, 23, 3, True): 101,
    (3, 8, 36, 3, True): 152,
}


# Heads of timm's, DeiT's and DINO's ViTs by width and depth.
TIMM_HEADS = {(192, 12): 3, (384, 12): 6, (768, 12): 12, (1024, 24): 16, (1280, 32): 16}
# DINOv2's and DINOv3's. The widest is the one whose heads are 128 wide.
_DINO_HEADS = {(384, 12): 6, (768, 12): 12, (1024, 24): 16, (1280, 32): 20, (1536, 40): 24, (4096, 40): 32}
_ATTENTION = re.compile(r'blocks\.\d+\.attn\.qkv\.weight')
_LIST = re.compile(r'blocks|layers|layer|stages|layer[1-4]')
_IN_EVERY_BLOCK = re.compile(
    r'(norm\d|attn\.(qkv|proj)|mlp\.fc\d|conv\d|bn\d)\.(weight|bias|running_mean|running_var)$'
)
_TIMM_VIT = re.compile(r'(timm/)?(vit|deit|dino)_?(tiny|small|base|large|huge|vit|s|b)')
_RESNET_FAMILY = ('res', 'seres', 'skres', 'ecares', 'xres', 'tres', 'wide_res', 'gluon_res')
# torchvision's and timm's names of networks that differ in depth and width alone; weights are named after the dot.
_PLAIN_RESNET = re.compile(
    r'(wide_|gluon_|tv_|ssl_|swsl_)?resnet[-_]?\d+(_[24]|w[245]|x[124]|_v1[bs]?)?([.@-].*|_\d+e?p?)?$'
)


def describe(backbone: Mapping[str, Tensor]) -> dict:
    """Family, name and sizes of a backbone with our names.

    Returns:
        ``family`` (``vit``, ``resnet`` or ``unknown``), a readable ``name``, and for a ViT ``embed_dims, num_layers,
        feedforward_channels, stem, in_channels, patch_size, grid``, for a ResNet ``layers, bottleneck, width,
        in_channels, depth``. Where tensors lack that the others ask for, ``gaps`` lists them and the name says so.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in backbone.items()}
    arch = _describe(shapes)
    if gaps := _gaps(shapes, arch['family']):
        arch |= {'gaps': gaps, 'name': f'{arch["name"]}, INCOMPLETE without {", ".join(gaps[:4])}'}
    return arch


def _describe(shapes: Mapping[str, tuple]) -> dict:
    if 'cls_token' in shapes and any(_ATTENTION.match(key) for key in shapes):
        return _vit(shapes)
    if 'conv1.weight' in shapes and 'layer1.0.conv1.weight' in shapes:
        return _resnet(shapes)
    return {
        'family': 'unknown',
        'name': f'unknown architecture ({len(shapes)} tensors: {", ".join([*shapes][:3])}, ...)',
    }


def heads_by_origin(official: bool, recipe: str | None, arch: Mapping) -> int | None:
    """The number of heads where the file does not say it but its origin does.

    MoCo v3 gives its ViT-S 12 heads where timm, DeiT and DINO give theirs 6, under the same name: the name alone
    does not tell.

    Args:
        official: The file is arranged as the official MoCo v3 writes it.
        recipe: What the file calls its architecture.
        arch: See :func:`describe`.
    """
    size = arch.get('embed_dims', 0), arch.get('num_layers', 0)
    if arch.get('dinov3') or (arch.get('layer_scale') and arch.get('patch_size') == 14 and size[0] != 1280):
        return _DINO_HEADS.get(size)
    if official:
        return 12 if size[0] in (384, 768) else None
    return TIMM_HEADS.get(size) if _TIMM_VIT.match(recipe or '') else None


def is_another_network(recipe: str | None, arch: Mapping) -> bool:
    """True if the file names a different network whose tensors look like the described one.

    ``resnetblur18`` and ``resnetaa50`` have the tensors of plain ResNets and smooth before they reduce; ``quickgelu``
    is another activation.
    """
    name = (recipe or '').lower().rpartition('/')[2]
    if arch.get('family') == 'resnet':
        return name.startswith(_RESNET_FAMILY) and not _PLAIN_RESNET.match(name)
    return arch.get('family') == 'vit' and 'quickgelu' in name


def further_than_resnet(keys: Iterable[str]) -> list[str]:
    """Tensors in the blocks of a ResNet that no plain one has, such as those of squeeze-and-excitation."""
    return [key for key in keys if re.match(r'layer[1-4]\.', key) and not names.is_of('resnet', key)]


def module_activations(module: nn.Module) -> set[str]:
    """The activations in a module, as transformers calls them: ``gelu``, ``gelu_pytorch_tanh``, ``relu``, ..."""
    found = set()
    for child in module.modules():
        if isinstance(child, nn.GELU):
            found.add('gelu' if child.approximate == 'none' else 'gelu_pytorch_tanh')
        elif type(child).__module__.startswith(('torch.nn.modules.activation', 'timm.layers.activations')):
            found.add({'silu': 'swish'}.get(name := type(child).__name__.lower(), name))
    return found - {'multiheadattention', 'softmax'}


def module_heads(module: nn.Module) -> int | None:
    """The number of attention heads of a module, if all its blocks have the same."""
    found = (getattr(child, 'num_heads', None) for child in module.modules())
    heads = {number for number in found if isinstance(number, int)}  # a Swin has a list of them
    return heads.pop() if len(heads) == 1 else None


def square_side(tokens: int) -> int | None:
    """Side of a square grid of that many patches, None if it is not square."""
    side = isqrt(tokens)
    return side if side * side == tokens else None


def _gaps(shapes: Mapping[str, tuple], family: str) -> list[str]:
    """Names of tensors that must be there, judged by the others."""
    if family == 'vit':
        ends = ['norm.', 'fc_norm.']
        missing = [] if any(key.startswith(tuple(ends)) for key in shapes) else ['norm']
        return _uneven(shapes, 'blocks') + missing
    if family == 'resnet':
        stages = [f'layer{i}' for i in range(1, 5)]
        missing = [f'{stage}.0' for stage in stages if f'{stage}.0.conv1.weight' not in shapes]
        found = [gap for stage in stages for gap in _uneven(shapes, stage)] + missing + _lonely(shapes)
        return list(dict.fromkeys(found))
    return _without_a_start(shapes)


def _without_a_start(shapes: Iterable[str]) -> list[str]:
    """Lists of blocks that do not begin at 0, as in the last file of a model in several."""
    numbers: dict[str, set[int]] = {}
    for parts in (key.split('.') for key in shapes):
        for i in range(1, len(parts) - 1):  # a list in a list counts too: stages.0.blocks.0
            if parts[i].isdecimal() and _LIST.fullmatch(parts[i - 1]):
                numbers.setdefault('.'.join(parts[:i]), set()).add(int(parts[i]))
    return [f'{name}.0' for name, found in numbers.items() if 0 not in found]


def _uneven(shapes: Collection[str], stage: str) -> list[str]:
    """Tensors that one block of a stage lacks and another has, and whole blocks missing from the numbering."""
    blocks: dict[int, set[str]] = {}
    for key in shapes:
        top, _, rest = key.partition('.')
        number, _, leaf = rest.partition('.')
        if top == stage and number.isdecimal():
            blocks.setdefault(int(number), set()).add(leaf)
    wanted = {leaf for leaves in blocks.values() for leaf in leaves if _IN_EVERY_BLOCK.match(leaf)}
    last = max(blocks, default=-1)
    absent = [f'{stage}.{number}' for number in range(min(last, len(shapes))) if number not in blocks]
    return absent + [f'{stage}.{n}.{leaf}' for n, leaves in sorted(blocks.items()) for leaf in sorted(wanted - leaves)]


def _lonely(shapes: Iterable[str]) -> list[str]:
    """Norms without a part of theirs that other norms have."""
    leaves: dict[str, set[str]] = {}
    for key in shapes:
        top, _, leaf = key.rpartition('.')
        if re.search(r'(^|\.)bn\d$|downsample\.1$', top) and leaf != 'num_batches_tracked':
            leaves.setdefault(top, set()).add(leaf)
    wanted = set().union(*leaves.values())
    return [f'{top}.{leaf}' for top, found in leaves.items() for leaf in sorted(wanted - found)]


def _vit(shapes: Mapping[str, tuple]) -> dict:
    width = shapes['cls_token'][-1]
    depth = len({key.split('.')[1] for key in shapes if key.startswith('blocks.')})
    convolutions = [key for key in shapes if key.startswith('patch_embed.proj.') and len(shapes[key]) == 4]
    conv = 'patch_embed.proj.weight' not in shapes
    strides = sum(shapes[key][-1] > 1 for key in convolutions)
    patch = 2**strides if conv else shapes['patch_embed.proj.weight'][-1]
    tokens = shapes.get('pos_embed', (1, 1, width))[1]
    sizes = VIT_SIZES.get(width)
    name = f'ViT-{sizes}/{patch}' if sizes else f'ViT of width {width}, patch {patch}'
    return {
        'family': 'vit',
        'name': f'{name}, {depth} blocks' + (', convolutional stem' if conv else ''),
        'embed_dims': width,
        'num_layers': depth,
        'feedforward_channels': shapes.get('blocks.0.mlp.fc1.weight', (4 * width,))[0],
        'stem': 'conv' if conv else 'patch',
        'in_channels': shapes[convolutions[0]][1] if convolutions else 3,
        'patch_size': patch,
        'grid': square_side(tokens - 1) or square_side(tokens),  # with registers, timm's class token has no position
        'registers': shapes['reg_token'][1] if 'reg_token' in shapes else 0,
        'layer_scale': has_layer_scale(shapes),
        'dinov3': is_dinov3(shapes),
    }


def _resnet(shapes: Mapping[str, tuple]) -> dict:
    layers = [len({k.split('.')[1] for k in shapes if k.startswith(f'layer{i}.')}) for i in range(1, 5)]
    bottleneck, width = 'layer1.0.conv3.weight' in shapes, shapes['conv1.weight'][0]
    second = shapes.get('layer1.0.conv2.weight', (1, 1))
    grouped = second[0] != second[1]  # a ResNeXt, with the names of a ResNet
    depth = None if grouped else _RESNETS.get((*layers, bottleneck))
    kind = f'ResNet-{depth}' if depth else f'ResNe{"X" * grouped}t with {"-".join(map(str, layers))} blocks'
    name = kind if width == 64 else f'{kind} of width {width}'
    further = further_than_resnet(shapes)
    if bottleneck and not grouped and second[0] != width:
        name += f', bottlenecks of {second[0]}'
    if further:
        name += f' with further tensors ({further[0]}, ...)'
    return {
        'family': 'resnet',
        'name': name,
        'layers': layers,
        'bottleneck': bottleneck,
        'width': width,
        'in_channels': shapes['conv1.weight'][1],
        'depth': None if further else depth,
    }
