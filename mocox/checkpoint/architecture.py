"""What a backbone's tensors tell about its architecture."""

from collections.abc import Mapping
from math import isqrt

from torch import Tensor, nn

VIT_SIZES = {192: 'Ti', 384: 'S', 768: 'B', 1024: 'L', 1280: 'H'}
_RESNETS = {
    (2, 2, 2, 2, False): 18,
    (3, 4, 6, 3, False): 34,
    (3, 4, 6, 3, True): 50,
    (3, 4, 23, 3, True): 101,
    (3, 8, 36, 3, True): 152,
}


def describe(backbone: Mapping[str, Tensor]) -> dict:
    """Family, name and sizes of a backbone with our names.

    Returns:
        ``family`` (``vit``, ``resnet`` or ``unknown``), a readable ``name``, and for a ViT ``embed_dims, num_layers,
        feedforward_channels, stem, patch_size, grid``, for a ResNet ``layers, bottleneck, width, depth``.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in backbone.items()}
    if 'cls_token' in shapes and 'blocks.0.attn.qkv.weight' in shapes:
        return _vit(shapes)
    if 'conv1.weight' in shapes and 'layer1.0.conv1.weight' in shapes:
        return _resnet(shapes)
    return {
        'family': 'unknown',
        'name': f'unknown architecture ({len(shapes)} tensors: {", ".join([*shapes][:3])}, ...)',
    }


def official_heads(layout: str, recipe: str | None, arch: Mapping) -> int | None:
    """12 for the ViTs of the official MoCo v3, where the file does not say it but its origin does."""
    official = layout == 'facebookresearch/moco-v3' or str(recipe).startswith(('vit_small', 'vit_base', 'vit_conv'))
    return 12 if official and arch.get('embed_dims') in (384, 768) else None


def module_heads(module: nn.Module) -> int | None:
    """The number of attention heads of a module, if all its blocks have the same."""
    found = (getattr(child, 'num_heads', None) for child in module.modules())
    heads = {number for number in found if isinstance(number, int)}  # a Swin has a list of them
    return heads.pop() if len(heads) == 1 else None


def square_side(tokens: int) -> int | None:
    """Side of a square grid of that many patches, None if it is not square."""
    side = isqrt(tokens)
    return side if side * side == tokens else None


def _vit(shapes: Mapping[str, tuple]) -> dict:
    width = shapes['cls_token'][-1]
    depth = len({key.split('.')[1] for key in shapes if key.startswith('blocks.')})
    convolutions = [key for key in shapes if key.startswith('patch_embed.proj.') and len(shapes[key]) == 4]
    conv = 'patch_embed.proj.weight' not in shapes
    strides = sum(shapes[key][-1] > 1 for key in convolutions)
    patch = 2**strides if conv else shapes['patch_embed.proj.weight'][-1]
    tokens = shapes.get('pos_embed', (1, 1, width))[1] - 1
    sizes = VIT_SIZES.get(width)
    name = f'ViT-{sizes}/{patch}' if sizes else f'ViT of width {width}, patch {patch}'
    return {
        'family': 'vit',
        'name': f'{name}, {depth} blocks' + (', convolutional stem' if conv else ''),
        'embed_dims': width,
        'num_layers': depth,
        'feedforward_channels': shapes.get('blocks.0.mlp.fc1.weight', (4 * width,))[0],
        'stem': 'conv' if conv else 'patch',
        'patch_size': patch,
        'grid': square_side(tokens),
    }


def _resnet(shapes: Mapping[str, tuple]) -> dict:
    layers = tuple(len({k.split('.')[1] for k in shapes if k.startswith(f'layer{i}.')}) for i in range(1, 5))
    bottleneck, width = 'layer1.0.conv3.weight' in shapes, shapes['conv1.weight'][0]
    depth = _RESNETS.get((*layers, bottleneck))
    kind = f'ResNet-{depth}' if depth else f'ResNet with {"-".join(map(str, layers))} blocks'
    name = kind if width == 64 else f'{kind} of width {width}'
    return {
        'family': 'resnet',
        'name': name,
        'layers': layers,
        'bottleneck': bottleneck,
        'width': width,
        'depth': depth,
    }
