"""Read any checkpoint, say what it is, and give its tensors mocox's names."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mocox.checkpoint import names
from mocox.checkpoint.architecture import describe, official_heads
from mocox.checkpoint.files import open_file
from mocox.checkpoint.provenance import provenance

KINDS = ('self-supervised', 'linear', 'fine-tuned', 'classifier', 'backbone')
_CONTAINERS = ('state_dict', 'model', 'state_dict_ema', 'model_ema', 'network', 'net')
_WRAPPERS = ('module.', 'model.', 'timm_model.', 'vit.')
_DOWNSTREAM = re.compile(r'(bbox|rpn|roi|mask|decode|auxiliary|query|panoptic)_head\.')


@dataclass(frozen=True)
class Checkpoint:
    """A file, recognised.

    Args:
        path: Where it was read from.
        state_dict: Its tensors under mocox's names: ``backbone.``, ``neck.``, ``head.``, ``momentum_encoder.``, ...
        layout: Whose arrangement it has, in words.
        kind: One of ``KINDS``; ``classifier`` has class weights but does not tell how they were trained, ``backbone``
            has no head at all.
        prefixes: The encoders it holds, ``query`` and ``momentum``, and the prefix of each in the file.
        arch: The backbone as far as tensors tell, see :func:`~mocox.checkpoint.architecture.describe`.
        meta: What was written beside the tensors: recipe, epochs, heads, mean, std, channel_order, ...
        names: The file's names to ours; None for what has no meaning in the layout.
        original: The file's tensors under its own names, wrappers such as ``module.`` removed.
        whole: ``state_dict`` is a complete pre-training state.
    """

    path: str
    state_dict: dict[str, Tensor]
    layout: str
    kind: str
    prefixes: dict[str, str]
    arch: dict
    meta: dict
    names: dict[str, str | None]
    original: dict[str, Tensor]
    whole: bool

    @property
    def encoders(self) -> tuple[str, ...]:
        """``query``, ``momentum`` or both. A file with one encoder may say itself which one it is."""
        return tuple(self.prefixes) if len(self.prefixes) > 1 else (self.meta.get('encoder', 'query'),)

    @property
    def summary(self) -> str:
        """One line: what this is."""
        encoders = ' and '.join(self.encoders) + ' encoder'
        return f'{self.layout}; {self.kind}; {encoders}; {self.arch["name"]}'

    @property
    def unknown(self) -> list[str]:
        """Tensors whose name has no meaning in this layout."""
        return [key for key, ours in self.names.items() if ours is None]

    def table(self) -> dict:
        """Everything in plain types: what the file is, and each tensor's name here and there."""
        return {
            'file': self.path,
            'layout': self.layout,
            'kind': self.kind,
            'encoders': list(self.encoders),
            'architecture': self.arch,
            'tensors': len(self.original),
            'parameters': sum(tensor.numel() for tensor in self.original.values()),
            'coverage': 1 - len(self.unknown) / len(self.original),
            'unknown': self.unknown,
            'meta': self.meta,
            'keys': [
                {'name': name, 'mocox': ours or '', 'shape': list(self.original[name].shape)}
                for name, ours in self.names.items()
            ],
        }

    def backbone(self, encoder: str = 'query', prefix: str | None = None) -> dict[str, Tensor]:
        """The tensors of one backbone, named as timm (ViT) or torchvision (ResNet) does.

        Args:
            encoder: ``query`` or ``momentum``.
            prefix: Take the tensors below this prefix of the file instead of recognising them.

        Raises:
            ValueError: The file does not have that encoder or that prefix.
        """
        if encoder not in ('query', 'momentum'):
            raise ValueError(f"encoder={encoder!r}: choose 'query' or 'momentum'")
        if prefix:
            encoder = self._encoder_at(prefix, encoder)
            if encoder is None:
                return self._below(prefix)
        if encoder not in self.encoders and (encoder == 'momentum' or self.meta.get('encoder') != 'momentum'):
            raise ValueError(f'{self.path} has no {encoder} encoder: it is {self.summary}')
        part = 'momentum_encoder.backbone.' if encoder == 'momentum' and self.prefixes.get('momentum') else 'backbone.'
        return strip(self.state_dict, part)

    def classifier(self) -> dict[str, Tensor]:
        """Class weights, ``weight`` and ``bias``, if the file has any."""
        return strip(self.state_dict, 'head.fc.')

    def _encoder_at(self, prefix: str, encoder: str) -> str | None:
        found = {source: name for name, source in self.prefixes.items()}.get(prefix.rstrip('.') + '.')
        if found == 'query' and encoder == 'momentum':
            raise ValueError(
                f"prefix={prefix!r} holds the query encoder, but encoder='momentum' was asked for: leave prefix out"
            )
        return found

    def _below(self, prefix: str) -> dict[str, Tensor]:
        found = strip(self.original, prefix.rstrip('.') + '.')
        if found:
            return names.to_ours(found, names.naming_of(found))
        tops = Counter(key.split('.')[0] for key in self.original)
        raise ValueError(
            f'{self.path} has no tensor below prefix={prefix!r}; its names start with '
            f'{", ".join(top for top, _ in tops.most_common(6))}. It was recognised as {self.layout}: leave prefix out'
        )


def read(path: str | Path, map_location: str = 'cpu') -> Checkpoint:
    """Read and recognise a checkpoint by its content.

    Args:
        path: A PyTorch or safetensors file, or a directory written by ``transformers``.
        map_location: Device of the tensors.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a checkpoint, damaged, or it would run code.
    """
    content, beside = open_file(path, map_location)
    return recognise(content, beside, str(path))


def recognise(content: Mapping, beside: Mapping, path: str = 'the state dict') -> Checkpoint:
    """What :func:`read` does once the file is open."""
    tensors = unwrap(_tensors(content, path))
    layout = names.recognise(tensors)
    mapping = {key: _our_name(key, layout) for key in tensors}
    state = {ours: tensors[key] for key, ours in mapping.items() if ours}
    for part in ('backbone.', 'momentum_encoder.backbone.'):
        state = _with_our_names(state, part)
    arch = describe(strip(state, 'backbone.'))
    meta = provenance(content, beside, layout.name)
    arch['num_heads'] = meta.get('heads') or official_heads(layout.name, meta.get('recipe'), arch)
    prefixes = {'query': layout.source('backbone'), 'momentum': layout.source('momentum_encoder.backbone')}
    if not strip(state, 'momentum_encoder.backbone.'):
        del prefixes['momentum']
    return Checkpoint(
        path=path,
        state_dict=state,
        layout=_layout_name(layout, state),
        kind=meta.get('kind') or _kind(content, tensors, state),
        prefixes=prefixes,
        arch=arch,
        meta=meta,
        names=mapping,
        original=tensors,
        whole=layout.whole and 'momentum' in prefixes,
    )


def strip(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries below a prefix, without it."""
    return {key[len(prefix) :]: tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def unwrap(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove what wrappers add to names: ``module.`` of data parallelism, ``_orig_mod.`` of ``torch.compile``, ..."""
    tensors = {key.replace('_orig_mod.', ''): tensor for key, tensor in tensors.items()}
    for prefix in _WRAPPERS:
        if tensors and all(key.startswith(prefix) for key in tensors):
            return unwrap(strip(tensors, prefix))
    return tensors


def _tensors(content: Mapping, path: str) -> dict[str, Tensor]:
    for key in _CONTAINERS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor) and isinstance(key, str)}
    if not tensors:
        keys = ', '.join(map(str, list(content)[:6])) or 'nothing'
        raise ValueError(f'{path} has no tensors where a checkpoint has them; its top level holds: {keys}')
    return tensors


def _our_name(key: str, layout: names.Layout) -> str | None:
    if any(names.has_prefix(key, prefix) for prefix in layout.ignored):
        return ''
    return names.translate(key, ((theirs, ours) for ours, theirs in layout.pairs))


def _with_our_names(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """Translate the backbone below ``part`` in place of its entries."""
    backbone = unwrap(strip(state, part))
    ours = {part + key: tensor for key, tensor in names.to_ours(backbone, names.naming_of(backbone)).items()}
    return {**ours, **{key: tensor for key, tensor in state.items() if not key.startswith(part)}}


def _kind(content: Mapping, tensors: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    if any(_DOWNSTREAM.match(key) for key in tensors):
        return 'fine-tuned'
    if any(key.startswith(('momentum_encoder.', 'neck.', 'head.predictor.')) for key in state):
        return 'self-supervised'
    if not strip(state, 'head.fc.'):
        return 'backbone'
    trained = _trained_tensors(content)
    if trained is None:
        # The official linear evaluation keeps its best accuracy; without optimizer there is no better sign.
        return 'linear' if 'best_acc1' in content else 'classifier'
    return 'linear' if trained == 2 else 'fine-tuned'


def _trained_tensors(content: Mapping) -> int | None:
    """How many tensors the optimizer has moved: 2, weight and bias, means a probe."""
    optimizer = content.get('optimizer')
    if not isinstance(optimizer, Mapping) or not optimizer.get('state'):
        return None
    return len(optimizer['state'])


def _layout_name(layout: names.Layout, state: Mapping[str, Tensor]) -> str:
    if layout is names.V1_V2:
        return f'{layout.name} {"v2" if "neck.mlp.0.weight" in state else "v1"}'
    return layout.name
