"""Write checkpoints for other libraries."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mocox.checkpoint import layouts, names
from mocox.checkpoint.architecture import further_than_resnet
from mocox.checkpoint.completeness import bounded
from mocox.checkpoint.contents import unwrap
from mocox.checkpoint.files import save_tensors, write_atomically
from mocox.checkpoint.loading import LEFTOVER, diverged_in
from mocox.checkpoint.provenance import stamp, untold
from mocox.checkpoint.reading import Checkpoint, read, strip
from mocox.checkpoint.usage import USAGE, as_arguments, classifier_name, from_folder, shape_of


@dataclass(frozen=True)
class Target:
    """A format to write.

    Args:
        vit: Naming of a ViT's tensors, a column of ``names.BACKBONES``; None: the format has no ViT.
        prefix: Comes before every backbone tensor.
        classifiers: Prefix of the class weights for a ViT and for a ResNet.
        conv_stem: Whether it can express the convolutional stem.
        resnet: Whether it has ResNets.
        other: Whether it takes architectures we do not know, names unchanged.
    """

    vit: str
    prefix: str = ''
    classifiers: tuple[str, str] | None = ('head', 'fc')
    conv_stem: bool = False
    resnet: bool = True
    other: bool = False


TARGETS = {
    'openmmlab': Target('mmpretrain', 'backbone.', ('head.fc', 'head.fc')),
    'mmseg': Target('mmseg', 'backbone.', None),
    'timm': Target('timm', conv_stem=True, other=True),
    'torchvision': Target('torchvision', classifiers=('heads.head', 'fc')),
    'transformers': Target('transformers', classifiers=None, resnet=False),
    'official': Target('timm', 'module.', conv_stem=True),
    'mocox': Target('timm', 'backbone.', ('head.fc', 'head.fc'), conv_stem=True, other=True),
}


def convert(
    path_in: str | Path,
    path_out: str | Path,
    to: str,
    encoder: str = 'query',
    heads: int | None = None,
    backbone_only: bool = False,
    prefix: str | None = None,
) -> list[str]:
    """Rewrite a checkpoint for another library, with metadata that says what it is.

    ``official`` and ``mocox`` keep a whole pre-training state; all others take one encoder's backbone, and the
    classifier if the file has one.

    Args:
        path_in: Any file :func:`~mocox.checkpoint.reading.read` understands.
        path_out: File to write (``.safetensors`` or PyTorch), a directory for ``transformers``.
        to: One of ``TARGETS``.
        encoder: ``query`` or ``momentum``.
        heads: Number of attention heads, where the file does not tell.
        backbone_only: Leave classifier and pre-training heads out.
        prefix: Take what is below this prefix, or in this container, of the file.

    Returns:
        How to load the result, and what to know about it.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a checkpoint, or the format cannot express it.
    """
    if to not in TARGETS:
        raise ValueError(f'to={to!r}: choose one of {", ".join(TARGETS)}')
    if Path(path_out).resolve() == Path(path_in).resolve():
        raise ValueError(f'{path_out} is the input: choose another output, the conversion keeps only weights')
    checkpoint = read(path_in, prefix=prefix, encoder=encoder)
    arch = {**checkpoint.arch, 'num_heads': heads or checkpoint.arch.get('num_heads')}
    # Checks the encoder too; a file with a single encoder says itself which one that is.
    backbone = {key: tensor for key, tensor in checkpoint.backbone(encoder).items() if not LEFTOVER.search(key)}
    if gaps := arch.get('gaps'):
        raise ValueError(f'{path_in} does not hold a whole backbone, nothing was written: it lacks {bounded(gaps)}')
    if diverged := diverged_in(backbone):
        raise ValueError(f'{path_in} is not converted: {diverged[0]}')
    encoder = checkpoint.encoders[0] if len(checkpoint.encoders) == 1 else encoder
    if to in ('official', 'mocox') and not backbone_only and checkpoint.whole:
        return _write_state(checkpoint, path_out, to, stamp(checkpoint.kind, 'both', arch, checkpoint.meta))
    metadata = stamp(checkpoint.kind, encoder, arch, checkpoint.meta)
    classifier = {} if backbone_only else checkpoint.classifier()
    arch |= {'backbone': checkpoint.meta.get('backbone'), 'folder': checkpoint.meta.get('folder')}
    own = _own_of_transformers(checkpoint, encoder)
    if own and to == 'mocox':
        backbone = {f'model.{key}': tensor for key, tensor in own.items()}
    own = own if to == 'transformers' else {}
    tensors = own or _export(to, backbone, classifier, arch)
    if to == 'official' and not classifier:
        raise ValueError(
            f'{path_in} is not a whole pre-training state, as the official format is: {checkpoint.summary}'
        )
    arch |= shape_of(backbone, arch)
    arch['num_classes'] = len(classifier['weight']) if classifier and TARGETS[to].classifiers else 0
    line = from_folder(arch['folder'], str(path_out)) if own else USAGE[to](arch, str(path_out))
    notes = [line, *checkpoint.notes]
    if arch['family'] == 'vit' and not (arch['num_heads'] or arch['backbone'] or own):
        notes.append('the file does not say its number of attention heads: build the model with the right one')
    if to != 'mocox' and (settings := untold(checkpoint.meta.get('backbone') or {})):
        if grid := settings.pop('grid', None):
            notes.append(f'its features are those of the last map, averaged over each of {grid} x {grid} parts')
        if settings:
            notes.append(f'build the model with {as_arguments(settings)}, which its tensors do not tell')
    if (activation := checkpoint.meta.get('activation') or 'gelu') != 'gelu':
        arch['activation'] = activation
        notes.append(f'trained with the activation {activation}: build the model with it')
    if classifier and TARGETS[to].classifiers is None:
        notes.append('the classifier was left out')
    if own:
        save_tensors(Path(path_out) / 'model.safetensors', own, metadata)
    elif to == 'transformers':
        _write_transformers(Path(path_out), tensors, metadata, arch)
    else:
        save_tensors(path_out, tensors, metadata, **_fields(to, checkpoint))
    return notes


def official_to_mocox(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate a whole official pre-training state (MoCo v1, v2, v3), with or without ``module.``.

    Raises:
        ValueError: A tensor has no place in the official format.
    """
    tensors = unwrap(state_dict)
    layout = layouts.recognise(tensors)
    if layout not in (layouts.V3_VIT, layouts.V3_RESNET, layouts.V1_V2):
        raise ValueError(f'not an official pre-training state but {layout.name}: {bounded(tensors)}')
    return _translate_all(tensors, ((theirs, ours) for ours, theirs in layout.pairs), 'the official format')


def mocox_to_official(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`official_to_mocox`, with ``module.``, in the official order.

    Raises:
        ValueError: A tensor has no place in the official format.
    """
    unofficial = ('data_preprocessor', 'queue.filled')  # their queue does not count
    tensors = {k: v for k, v in state_dict.items() if not any(layouts.has_prefix(k, name) for name in unofficial)}
    backbone = strip(tensors, 'backbone.')
    naming = names.naming_of(backbone)
    if naming != 'timm':
        raise ValueError(f'the backbone has the names of {naming}: read() translates them first')
    layout = (
        layouts.V1_V2 if 'queue.keys' in tensors else layouts.V3_VIT if 'cls_token' in backbone else layouts.V3_RESNET
    )
    pairs = [(ours, theirs) for ours, theirs in layout.pairs if ours is not None]
    official = _translate_all(tensors, pairs, 'mocox')
    order = ['queue', 'queue_ptr', 'base_encoder', 'encoder_q', 'momentum_encoder', 'encoder_k', 'predictor']
    return {'module.' + key: official[key] for key in sorted(official, key=lambda key: order.index(key.split('.')[0]))}


def _translate_all(tensors: Mapping[str, Tensor], pairs: Iterable[tuple], source: str) -> dict[str, Tensor]:
    pairs = list(pairs)
    renamed = {key: layouts.translate(key, pairs) for key in tensors}
    if lost := [key for key, new in renamed.items() if new is None]:
        raise ValueError(f'{len(lost)} tensors have no place in a MoCo state of {source}: {bounded(lost)}')
    if len(set(renamed.values())) < len(renamed):
        raise ValueError('two tensors would get the same name: the state mixes two formats')
    return {new: tensors[key] for key, new in renamed.items() if new is not None}


def _write_state(checkpoint: Checkpoint, path: str | Path, to: str, metadata: dict) -> list[str]:
    if checkpoint.unknown:
        raise ValueError(f'{checkpoint.path} has tensors without a place in its layout: {bounded(checkpoint.unknown)}')
    if to == 'official':
        save_tensors(path, mocox_to_official(checkpoint.state_dict), metadata, **_fields(to, checkpoint))
        return [
            'the whole state in the official format, without optimizer: for evaluation and warm starts, not --resume'
        ]
    save_tensors(path, checkpoint.state_dict, metadata)
    return [f'the whole state for load_from={str(path)!r} of the same configuration']


def _own_of_transformers(checkpoint: Checkpoint, encoder: str) -> dict[str, Tensor]:
    """The tensors of a TransformersBackbone under the names that they have in its folder."""
    place = {'query': 'backbone.model.', 'momentum': 'momentum_encoder.backbone.model.'}[encoder]
    return strip(checkpoint.original, place) if checkpoint.meta.get('folder') else {}


def _export(
    to: str, backbone: Mapping[str, Tensor], classifier: Mapping[str, Tensor], arch: Mapping
) -> dict[str, Tensor]:
    target, family = TARGETS[to], arch['family']
    if to == 'timm' and family == 'unknown' and arch.get('folder'):
        raise ValueError(f'timm names the tensors of {arch["name"]} otherwise: --to transformers')
    if not {'vit': True, 'resnet': target.resnet, 'unknown': target.other}[family]:
        raise ValueError(f'{to} cannot express {arch["name"]}: try --to timm')
    if arch.get('stem') == 'conv' and not target.conv_stem:
        raise ValueError(
            f'{to} has no convolutional stem ({arch["name"]}): --to mocox for mocox.MoCoViT(stem="conv"), or --to timm'
        )
    if family == 'resnet' and not target.other and (lost := further_than_resnet(backbone)):
        raise ValueError(f'{to} has no place for {len(lost)} of the tensors: {bounded(lost)}: try --to timm')
    naming = target.vit if family == 'vit' else 'timm'
    if naming != 'timm' and (lost := names.inexpressible(backbone, naming)):
        raise ValueError(f'{to} has no place for {len(lost)} of the tensors: {bounded(lost)}')
    tensors = {target.prefix + key: tensor for key, tensor in names.from_ours(backbone, naming).items()}
    if target.classifiers:
        head = (to == 'timm' and classifier_name(arch)) or target.classifiers[family == 'resnet']
        head = 'module.' + head if to == 'official' else head
        tensors |= {f'{head}.{leaf}': tensor for leaf, tensor in classifier.items()}
    return tensors


def _fields(to: str, checkpoint: Checkpoint) -> dict:
    if to != 'official':
        return {}
    arch = checkpoint.arch
    size = {384: 'small', 768: 'base'}.get(arch.get('embed_dims') or 0)
    stem = 'conv_' if arch.get('stem') == 'conv' else ''
    known = f'vit_{stem}{size}' if size else f'resnet{arch["depth"]}' if arch.get('depth') else arch['name']
    return {'epoch': checkpoint.meta.get('epochs') or 0, 'arch': known}


def _write_transformers(folder: Path, tensors: Mapping[str, Tensor], metadata: dict, arch: Mapping) -> None:
    if not arch['num_heads']:
        raise ValueError(
            'a transformers model needs its number of attention heads, and the file does not say: pass --heads'
        )
    if not arch['grid']:
        raise ValueError('transformers cannot express position embeddings of a grid that is not square')
    config = {
        'architectures': ['ViTModel'],
        'model_type': 'vit',
        'hidden_size': arch['embed_dims'],
        'num_hidden_layers': arch['num_layers'],
        'num_attention_heads': arch['num_heads'],
        'intermediate_size': arch['feedforward_channels'],
        'image_size': arch['grid'] * arch['patch_size'],
        'patch_size': arch['patch_size'],
        'num_channels': tensors['embeddings.patch_embeddings.projection.weight'].shape[1],
        'qkv_bias': 'encoder.layer.0.attention.attention.query.bias' in tensors,
        'hidden_act': {'quickgelu': 'quick_gelu'}.get(found := arch.get('activation', 'gelu'), found),
        'layer_norm_eps': 1e-6,
        'hidden_dropout_prob': 0.0,
        'attention_probs_dropout_prob': 0.0,
        'mocox': metadata,
    }
    save_tensors(folder / 'model.safetensors', tensors, metadata)
    write_atomically(folder / 'config.json', lambda path: Path(path).write_text(json.dumps(config, indent=2)))
    if metadata['mean'] and metadata['std']:
        images = {
            'image_processor_type': 'ViTImageProcessor',
            'do_resize': True,
            'size': {'height': config['image_size'], 'width': config['image_size']},
            'do_rescale': True,
            'rescale_factor': 1 / 255,
            'do_normalize': True,
            'image_mean': [value / 255 for value in metadata['mean']],
            'image_std': [value / 255 for value in metadata['std']],
        }
        write_atomically(
            folder / 'preprocessor_config.json', lambda path: Path(path).write_text(json.dumps(images, indent=2))
        )
