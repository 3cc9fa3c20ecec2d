"""Read any checkpoint, recognise it, and rename its tensors to mocox's names."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from mocox.checkpoint import layouts, names
from mocox.checkpoint.architecture import describe, heads_by_origin, is_another_network
from mocox.checkpoint.contents import AVERAGED, backbones_in, find_tensors, unwrap
from mocox.checkpoint.files import open_file
from mocox.checkpoint.provenance import RESNETS, oblong, provenance

KINDS = ('self-supervised', 'linear', 'fine-tuned', 'classifier', 'backbone')
OFFICIAL_VITS = ('vit_small', 'vit_base', 'vit_conv_small', 'vit_conv_base')
_DOWNSTREAM = re.compile(r'(bbox|rpn|roi|mask|decode|auxiliary|query|panoptic)_head\.')


@dataclass(frozen=True)
class Checkpoint:
    """A recognised file.

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
        others: What the file holds beside these tensors, by the name of its container, such as ``state_dict_ema``.
        notes: What a person should know about the choice of tensors.
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
    others: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def encoders(self) -> tuple[str, ...]:
        """``query``, ``momentum`` or both. A file with one encoder may say itself which one it is."""
        return tuple(self.prefixes) if len(self.prefixes) > 1 else (self.meta.get('encoder', 'query'),)

    @property
    def summary(self) -> str:
        """Description of the file in one line."""
        encoders = ' and '.join(self.encoders) + ' encoder'
        return f'{self.layout}; {self.kind}; {encoders}; {self.arch["name"]}'

    @property
    def unknown(self) -> list[str]:
        """Tensors whose name has no meaning in this layout."""
        return [key for key, ours in self.names.items() if ours is None]

    @property
    def unrecognised(self) -> list[str]:
        """Unknown tensors: without a place in the layout, or in a backbone of unknown architecture."""
        return [key for key, ours in self.names.items() if ours is None or not self._is_known(key, ours)]

    def _is_known(self, key: str, ours: str) -> bool:
        inside = re.fullmatch(r'(?:momentum_encoder\.)?backbone\.(.+)', ours)
        if not inside:
            return True
        if self.arch['family'] == 'unknown':
            return False
        name = next(iter(unwrap({inside[1]: self.original[key]})))
        return names.is_of(self.arch['family'], name)

    def table(self) -> dict:
        """Everything in plain types: the kind of file, and each tensor's name in the file and here."""
        return {
            'file': self.path,
            'layout': self.layout,
            'kind': self.kind,
            'encoders': list(self.encoders),
            'architecture': self.arch,
            'tensors': len(self.original),
            'parameters': sum(tensor.numel() for tensor in self.original.values()),
            'coverage': 1 - len(self.unrecognised) / len(self.original),
            'unknown': self.unrecognised,
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
            return self.below(prefix, encoder).backbone(encoder)
        self._refuse_unusable()
        if encoder not in self.encoders and (encoder == 'momentum' or self.meta.get('encoder') != 'momentum'):
            raise ValueError(f'{self.path} has no {encoder} encoder: it is {self.summary}')
        part = 'momentum_encoder.backbone.' if encoder == 'momentum' and self.prefixes.get('momentum') else 'backbone.'
        return strip(self.state_dict, part)

    def classifier(self) -> dict[str, Tensor]:
        """Class weights, ``weight`` and ``bias``, if the file has any."""
        return strip(self.state_dict, 'head.fc.')

    def below(self, prefix: str, encoder: str = 'query') -> 'Checkpoint':
        """The part of the file below a prefix, or in another of its containers, as a checkpoint of its own.

        Args:
            prefix: Of the tensors' names, or the name of a container such as ``state_dict_ema``.
            encoder: Which encoder is wanted, to refuse the other one.

        Raises:
            ValueError: There is no tensor below that prefix, or it holds the encoder that was not asked for.
        """
        prefix = prefix.rstrip('.')
        while prefix.startswith(('module.', '_orig_mod.')) and not strip(self.original, prefix + '.'):
            prefix = prefix.partition('.')[2]  # the names as torch shows them; wrappers have been removed here
        if which := self._encoder_at(prefix, encoder):
            return self._only(which, prefix)
        tensors = strip(self.original, prefix + '.') or self._in_container(prefix)
        inner = _recognise(unwrap(tensors), {}, self.path)
        same = inner.arch.get('embed_dims') == self.arch.get('embed_dims') or not self.arch.get('embed_dims')
        heads = self.meta.get('heads') or (self.arch.get('num_heads') if same else None)
        return replace(
            inner,
            layout=f'{self.layout}, below {prefix}',
            kind=self.kind if inner.kind == 'classifier' and self.kind != 'backbone' else inner.kind,
            arch={**inner.arch, 'num_heads': inner.arch.get('num_heads') or heads},
            meta=self.meta,
        )

    def _only(self, encoder: str, prefix: str) -> 'Checkpoint':
        part = 'backbone.' if encoder == 'query' or len(self.prefixes) == 1 else 'momentum_encoder.backbone.'
        kept = {key: ours for key, ours in self.names.items() if ours and ours.startswith(part)}
        return replace(
            self,
            state_dict={f'backbone.{key}': tensor for key, tensor in strip(self.state_dict, part).items()},
            layout=f'{self.layout}, below {prefix}',
            prefixes={'query': prefix + '.'},
            meta={**self.meta, 'encoder': self.encoders[0] if len(self.prefixes) == 1 else encoder},
            names={key: ours.removeprefix('momentum_encoder.') for key, ours in kept.items()},
            original={key: self.original[key] for key in kept},
            whole=False,
        )

    def _in_container(self, prefix: str) -> dict[str, Tensor]:
        container, _, rest = prefix.partition('.')
        found = self.others.get(container, {})
        found = strip(found, rest + '.') if rest else found
        if found:
            return found
        tops = [*self.others, *(top for top, _ in Counter(key.split('.')[0] for key in self.original).most_common(6))]
        raise ValueError(
            f'{self.path} has no tensor below prefix={prefix + "."!r}; its names start with {", ".join(tops)}. '
            f'It was recognised as {self.layout}: leave prefix out'
        )

    def _encoder_at(self, prefix: str, encoder: str) -> str | None:
        found = {source: name for name, source in self.prefixes.items()}.get(prefix + '.')
        if found == 'query' and encoder == 'momentum':
            raise ValueError(
                f"prefix={prefix!r} holds the query encoder, but encoder='momentum' was asked for: leave prefix out"
            )
        return found

    def _refuse_unusable(self) -> None:
        if choices := self.arch.get('choices'):
            raise ValueError(
                f'{self.path} holds several backbones, below {", ".join(choices)}: choose one with prefix (--prefix)'
            )
        for key, tensor in self.state_dict.items():
            is_weight = key.endswith(('.weight', '.bias', '_token', 'pos_embed', 'running_mean', 'running_var'))
            if is_weight and 'backbone.' in key and not _is_ordinary(tensor):
                raise ValueError(
                    f'{self.path} holds {key} as {str(tensor.dtype).removeprefix("torch.")}: weights of a network '
                    'that mocox knows are floating-point numbers, and quantised ones are useless without their scales. '
                    'Save the model in float32 or bfloat16, with the program that has written this'
                )


def read(path: str | Path, map_location: str = 'cpu', prefix: str | None = None, encoder: str = 'query') -> Checkpoint:
    """Read and recognise a checkpoint by its content.

    Args:
        path: A PyTorch or safetensors file, one of several that hold a model together or their index, an archive of
            NumPy, a directory written by ``transformers`` or ``timm``, or the work dir of a training.
        map_location: Device of the tensors.
        prefix: Take what is below this prefix, or in this container, of the file as the whole file.
        encoder: Which encoder is wanted, to refuse a prefix of the other one.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a checkpoint, damaged, part of one, or it would run code.
    """
    content, beside = open_file(path, map_location)
    found = recognise(content, beside, str(path), (prefix or '').partition('.')[0])
    return found.below(prefix, encoder) if prefix else found


def recognise(content: Mapping, beside: Mapping, path: str = 'the state dict', wanted: str = '') -> Checkpoint:
    """Recognise the content of an open file; ``wanted`` is the container to take where several qualify."""
    tensors, others = find_tensors(content, path, wanted)
    found = _recognise(tensors, content, path, beside)
    return replace(found, others=others, notes=_notes(found, content, others))


def _recognise(tensors: Mapping[str, Tensor], content: Mapping, path: str, beside: Mapping | None = None) -> Checkpoint:
    layout, mapping, state, arch = _arranged(tensors)
    meta = provenance(content, beside or {}, layout.name)
    if not strip(state, 'backbone.') and strip(state, 'momentum_encoder.backbone.'):
        meta['encoder'] = 'momentum'
        state = {key.removeprefix('momentum_encoder.'): tensor for key, tensor in state.items()}
        mapping = {key: ours and ours.removeprefix('momentum_encoder.') for key, ours in mapping.items()}
        arch, prefixes = describe(strip(state, 'backbone.')), {'query': layout.source('momentum_encoder.backbone')}
        kind = 'self-supervised'
    else:
        prefixes = {'query': layout.source('backbone'), 'momentum': layout.source('momentum_encoder.backbone')}
        if not strip(state, 'momentum_encoder.backbone.'):
            del prefixes['momentum']
        kind = meta.get('kind') or _kind(content, tensors, state)
    official = layout.name.startswith('facebookresearch/moco-v3') or _is_official_probe(content, kind)
    by_origin = heads_by_origin(official, meta.get('recipe'), arch)
    if _is_ambiguous(content, meta.get('recipe')) and not official:
        by_origin = None
    arch['num_heads'] = meta.get('heads') or arch.get('num_heads') or by_origin
    size = oblong(meta.get('img_size'))
    if size and arch['family'] == 'vit':
        arch |= {'grid': None, 'img_size': size}
    # In a run of OpenMMLab the recipe is called as its config file is, and the config says the network.
    if meta.get('network') not in RESNETS and is_another_network(meta.get('recipe'), arch):
        arch |= {
            'family': 'unknown',
            'name': f'unknown architecture ({meta["recipe"]}, which looks like {arch["name"]})',
        }
    return Checkpoint(
        path=path,
        state_dict=state,
        layout=_layout_name(layout, state),
        kind=kind,
        prefixes=prefixes,
        arch=arch,
        meta=meta,
        names=mapping,
        original=dict(tensors),
        whole=layout.whole and 'momentum' in prefixes,
    )


def _arranged(tensors: Mapping[str, Tensor]) -> tuple[layouts.Layout, dict, dict[str, Tensor], dict]:
    """The layout, the names it gives, the tensors under our names, and the backbone they make.

    Where the layouts that we know give no backbone that we know, the only one in the file counts; the slow one of a
    training does not stand in for a damaged one that learns.
    """
    layout = layouts.recognise(tensors)
    mapping, state, arch = _named(tensors, layout)
    if not strip(state, 'backbone.') and (slow := strip(state, 'momentum_encoder.backbone.')):
        arch = describe(slow)
    if arch['family'] == 'unknown' and (found := backbones_in(tensors)):
        if len(found) == 1 and strip(state, 'backbone.') and _is_slow(found[0], mapping):
            arch = {**arch, 'name': 'unknown or incomplete; that of the momentum encoder is whole'}
        elif len(found) == 1:
            layout = layouts.below(found[0].rstrip('.'))
            mapping, state, arch = _named(tensors, layout)
        else:
            arch = {**arch, 'choices': found, 'name': f'several backbones, below {", ".join(found)}'}
    return layout, mapping, state, arch


def _is_slow(prefix: str, mapping: Mapping[str, str | None]) -> bool:
    names = (ours for key, ours in mapping.items() if ours and key.startswith(prefix))
    return any(name.startswith('momentum_encoder.') for name in names)


def _named(tensors: Mapping[str, Tensor], layout: layouts.Layout) -> tuple[dict, dict[str, Tensor], dict]:
    mapping = {key: _our_name(key, layout) for key in tensors}
    state = {ours: tensors[key] for key, ours in mapping.items() if ours}
    for part in ('backbone.', 'momentum_encoder.backbone.'):
        state = _with_our_names(state, part)
    arch = describe(strip(state, 'backbone.'))
    return mapping, _classifier_outside(state, arch), arch


def _classifier_outside(state: dict[str, Tensor], arch: Mapping) -> dict[str, Tensor]:
    """A classifier among the backbone's tensors, as in a whole model kept below ``backbone.model.``."""
    name = {'vit': 'head', 'resnet': 'fc'}.get(arch['family'])
    slow = rf'momentum_encoder\.backbone\.{name}\.(weight|bias)'  # nothing is done with that of the slow one
    state = {key: tensor for key, tensor in state.items() if not name or not re.fullmatch(slow, key)}
    inside = {key: t for key, t in state.items() if name and re.fullmatch(rf'backbone\.{name}\.(weight|bias)', key)}
    if not inside or strip(state, 'head.fc.'):
        return state
    outside = {f'head.fc.{key.rpartition(".")[2]}': tensor for key, tensor in inside.items()}
    return {**{key: tensor for key, tensor in state.items() if key not in inside}, **outside}


def _is_official_probe(content: Mapping, kind: str) -> bool:
    """True if MoCo v3's official linear evaluation wrote this: its fields, its names, two trained tensors."""
    return kind == 'linear' and _is_ambiguous(content, content.get('arch'))


def _is_ambiguous(content: Mapping, recipe: str | None) -> bool:
    """Fields and names of the official linear evaluation, which supervised training with its code has too."""
    state = content.get('state_dict')
    wrapped = isinstance(state, Mapping) and all(str(key).startswith('module.') for key in state)
    return recipe in OFFICIAL_VITS and wrapped and 'best_acc1' in content


def _notes(found: Checkpoint, content: Mapping, others: Mapping) -> tuple[str, ...]:
    notes = []
    averaged = [key for key in AVERAGED if key in others]
    if averaged == ['ema_state_dict'] and 'message_hub' in content:  # MMEngine's EMAHook exchanges the two
        notes.append('state_dict holds the moving average; the raw weights are in ema_state_dict (--prefix takes them)')
    elif averaged:
        notes.append(f'the raw weights are taken; their moving average is in {averaged[0]} (--prefix {averaged[0]})')
    unused = [prefix for prefix in backbones_in(found.original) if _is_unused(found, prefix)]
    if unused and not found.arch.get('choices'):
        notes.append(f'another backbone is in the file below {", ".join(unused)} (--prefix takes it)')
    if found.layout == 'DINO or iBOT':
        notes.append('the student is the query encoder; published results are of the teacher (--encoder momentum)')
    return tuple(notes)


def _is_unused(found: Checkpoint, prefix: str) -> bool:
    return all(ours is None for key, ours in found.names.items() if key.startswith(prefix))


def _is_ordinary(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.element_size() > 1 and not tensor.is_quantized


def strip(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries below a prefix, without it."""
    return {key[len(prefix) :]: tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _our_name(key: str, layout: layouts.Layout) -> str | None:
    if any(layouts.has_prefix(key, prefix) for prefix in layout.ignored):
        return ''
    return layouts.translate(key, ((theirs, ours) for ours, theirs in layout.pairs))


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
    if trained is None:  # a best accuracy alone does not tell what was trained
        return 'classifier'
    return 'linear' if trained == 2 else 'fine-tuned'


def _trained_tensors(content: Mapping) -> int | None:
    """Number of tensors that the optimizer has trained: 2, weight and bias, means a probe."""
    optimizer = content.get('optimizer')
    if not isinstance(optimizer, Mapping) or not optimizer.get('state'):
        return None
    return len(optimizer['state'])


def _layout_name(layout: layouts.Layout, state: Mapping[str, Tensor]) -> str:
    if layout is layouts.V1_V2:
        return f'{layout.name} {"v2" if "neck.mlp.0.weight" in state else "v1"}'
    return layout.name
