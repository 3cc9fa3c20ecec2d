"""Files that hold tensors as NumPy arrays: ``.npz``, pickles of arrays, the vision transformers of JAX."""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from mocox.pickles import ArrayUnpickler, RefusedPickle, find_cost

MAX_PICKLE_BYTES = 2**33
MAX_DICTS = 200  # dicts converted in all; the content of further ones stays as it is
_BLOCK = re.compile(r'Transformer/encoderblock_(\d+)/(.+)')
_LEAF = {
    'LayerNorm_0': 'norm1',
    'MultiHeadDotProductAttention/out': 'attn.proj',
    'MlpBlock/Dense_0': 'mlp.fc1',
    'MlpBlock/Dense_1': 'mlp.fc2',
}
_PLACES = {
    'cls': 'cls_token',
    'Transformer/posembed_input/pos_embedding': 'pos_embed',
    'embedding/kernel': 'patch_embed.proj.weight',
    'embedding/bias': 'patch_embed.proj.bias',
    'Transformer/encoder_norm/scale': 'norm.weight',
    'Transformer/encoder_norm/bias': 'norm.bias',
    'head/kernel': 'head.weight',
    'head/bias': 'head.bias',
}


def read_npz(path: Path) -> tuple[dict, dict]:
    """Return the arrays of an ``.npz`` as tensors; those of Google's ViTs under timm's names.

    Returns:
        Tensors by name, and what the layout says of itself, as settings beside the weights would.

    Raises:
        ValueError: Damaged, or arrays of Python objects.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # of zipfile and of NumPy's header
        raise ValueError(f'{path} is an archive of NumPy that cannot be read: {error}') from None
    arrays = {re.sub(r'^(opt/target|params)/', '', name): array for name, array in arrays.items()}
    tensors = {name: to_tensor(array) for name, array in arrays.items()}
    if 'cls' in tensors and any(_BLOCK.match(name) for name in tensors):
        numeric = {name: array for name, array in tensors.items() if isinstance(array, Tensor)}
        found, beside = _from_jax(numeric)
        return {name: array for name, array in tensors.items() if name not in numeric} | found, beside
    return tensors, {}


def read_pickle(path: Path) -> dict | None:
    """Read a pickle of NumPy arrays in dicts, as detectron2 writes it, as tensors; None without arrays.

    Only dicts, lists, plain values and arrays of numbers are made; no function of the pickle's choice is called.

    Raises:
        ValueError: It names something else; says what.
    """
    if path.stat().st_size > MAX_PICKLE_BYTES:
        return None
    pickled = path.read_bytes()
    try:
        cost = find_cost(pickled)
        content = None if cost else ArrayUnpickler(io.BytesIO(pickled)).load()
    except RefusedPickle as error:
        raise ValueError(
            f'{path} is a Python pickle, not a file of torch.save, and refused: loading it would call {error}, which '
            'weights do not need and which may be malicious. If you trust its author, load it with their own program '
            'and save the state dict alone'
        ) from None
    except Exception:  # damaged, or no pickle: torch says which
        return None
    if cost:
        raise ValueError(f'{path} is refused: {cost}')
    found = with_tensors(content)
    return found if isinstance(found, dict) and _has_tensors(found) else None


@overload
def with_tensors(content: dict, seen: dict | None = ...) -> dict: ...


@overload
def with_tensors(content: object, seen: dict | None = ...) -> object: ...


def with_tensors(content: object, seen: dict | None = None) -> object:
    """Replace numeric arrays in nested dicts by tensors; a pickled dict may contain itself."""
    seen = {} if seen is None else seen
    if isinstance(content, np.ndarray) and content.dtype != object:
        return to_tensor(content)
    if isinstance(content, dict):
        if id(content) not in seen and len(seen) < MAX_DICTS:
            made: dict[Any, Any] = {}
            seen[id(content)] = made
            made.update({key: with_tensors(value, seen) for key, value in content.items()})
        return seen.get(id(content), content)
    return content


def to_tensor(array: np.ndarray) -> Tensor | np.ndarray:
    """A tensor with the same values; arrays of text or dates stay what they are."""
    try:
        return torch.from_numpy(np.ascontiguousarray(array).astype(array.dtype.newbyteorder('='))).reshape(array.shape)
    except (TypeError, ValueError):
        return array


def _has_tensors(content: object, depth: int = 8) -> bool:
    if isinstance(content, dict) and depth:
        return any(_has_tensors(value, depth - 1) for value in content.values())
    return isinstance(content, Tensor)


def _from_jax(arrays: Mapping[str, Tensor]) -> tuple[dict, dict]:
    """github.com/google-research/vision_transformer: kernels (in, out), one tensor each for query, key and value."""
    tensors: dict[str, Tensor] = {}
    thirds: dict[str, dict[str, Tensor]] = {}
    heads = None
    for name, array in arrays.items():
        match = _BLOCK.fullmatch(name)
        module, _, leaf = re.sub(r'(Attention|MlpBlock)_\d', r'\1', match[2]).rpartition('/') if match else ('', '', '')
        if match and (part := module.rpartition('/')[2]) in ('query', 'key', 'value'):
            heads = array.shape[-2] if part == 'query' else heads
            leaf = 'weight' if leaf == 'kernel' else 'bias'
            flat = array.flatten(-2).T if leaf == 'weight' else array.flatten()
            place = f'blocks.{match[1]}.attn.qkv.{leaf}'
            tensors[place] = flat  # keeps the place
            thirds.setdefault(place, {})[part] = flat
        elif match and (ours := _LEAF.get(module) or ('norm2' if module.startswith('LayerNorm_') else None)):
            if ours == 'attn.proj' and leaf == 'kernel':
                array = array.flatten(0, 1)
            tensors[f'blocks.{match[1]}.{ours}.{"bias" if leaf == "bias" else "weight"}'] = _turned(array, leaf)
        else:
            tensors[_PLACES.get(name, name)] = _turned(array, name.rpartition('/')[2])
    for place, parts in thirds.items():
        if len(parts) == 3:
            tensors[place] = torch.cat([parts[part] for part in ('query', 'key', 'value')])
        else:
            del tensors[place]
    half = {'image_mean': [0.5] * 3, 'image_std': [0.5] * 3}  # its programs map images to -1..1
    return tensors, {'config': {'num_attention_heads': heads}, 'preprocessor': half}


def _turned(array: Tensor, leaf: str) -> Tensor:
    """A kernel of JAX, (in, out) or (height, width, in, out), as PyTorch has it."""
    if leaf != 'kernel':
        return array
    return (array.permute(3, 2, 0, 1) if array.ndim == 4 else array.T).contiguous()
