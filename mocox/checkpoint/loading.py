"""Load a backbone: all of it, or an error that says why not."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from mocox.checkpoint.architecture import describe, module_activations, module_heads
from mocox.checkpoint.completeness import bounded, tensor_difference
from mocox.checkpoint.contents import unwrap
from mocox.checkpoint.dino import fold_layer_scale, has_layer_scale, without_zero_biases
from mocox.checkpoint.fitting import fit_channels, fit_positions
from mocox.checkpoint.names import from_ours, naming_of, to_ours
from mocox.checkpoint.reading import Checkpoint, read, strip
from mocox.checkpoint.timm_pretrained import as_timm
from mocox.registry import WEIGHT_INITIALIZERS

# Whole parts at the end of a backbone that a module may be built without: no final norm, fewer stages.
_OPTIONAL_ENDS = ('norm.', 'layer4.', 'layer3.', 'layer2.')
# Of masked pre-training: no features depend on them.
LEFTOVER = re.compile(r'(^|\.)(mask_token|masked_embed|decoder_(blocks|embed|norm|pred|pos_embed)(\..*)?)$|^decoder_')
_ONLY_TIMM = ('reg_token', 'attn.q_bias', 'attn.v_bias')
_TIMM_LINE = (
    "backbone=dict(type='TIMMBackbone', model_name='vit_small_patch14_reg4_dinov2', dynamic_img_size=True) for DINOv2, "
    "'vit_small_patch16_dinov3' for DINOv3"
)
_KIND_NOTES = {
    'linear': 'this is a linear-evaluation file; its backbone is the frozen self-supervised one',
    'fine-tuned': 'this is a fine-tuned file: its backbone has been trained with labels',
    'classifier': 'how its backbone was trained is unknown: the file has a classifier, so perhaps with labels',
    'backbone': 'how this backbone was trained is unknown: the file does not say',
}


@dataclass(frozen=True)
class LoadReport:
    """Summary of a load.

    Args:
        source: The file, recognised, in one line.
        encoder: ``query`` or ``momentum``.
        num_tensors: How many of the module's tensors were loaded: all of them.
        notes: What the user should know: interpolated positions, heads, channel order, kind of file.
        normalisation: ``mean`` and ``std`` (0..255) of the images it was trained on, if the file says.
    """

    source: str
    encoder: str
    num_tensors: int
    notes: tuple[str, ...]
    normalisation: dict[str, list[float]] = field(default_factory=dict)

    def __str__(self) -> str:
        head = f'loaded {self.num_tensors} of {self.num_tensors} tensors ({self.encoder} encoder) from {self.source}'
        return '\n  '.join([head, *self.notes])


def load_backbone(
    module: nn.Module,
    path: str | Path | Checkpoint,
    encoder: str = 'query',
    prefix: str | None = None,
    heads: int | None = None,
    map_location: str = 'cpu',
    part: str | None = None,
) -> LoadReport:
    """Load every tensor of a backbone from any recognised checkpoint, or nothing.

    Args:
        module: A ViT or ResNet of mocox, mmpretrain, mmdet, mmseg, timm or torchvision, without classifier.
        path: The checkpoint: a file, or what :func:`read` has made of one.
        encoder: ``query`` or ``momentum``.
        prefix: Take the tensors below this prefix of the file; by default they are found by recognising the file.
        heads: The number of attention heads the weights were trained with, where the file does not tell.
        map_location: Where the file's tensors are put first.
        part: Fill only the tensors whose names start with this, such as ``layer4.``, from those of the file: the head
            of a C4 detector is the last stage of a ResNet and a norm of its own.

    Returns:
        What was loaded, and what to know about it.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file is not a checkpoint or does not fill the module; lists missing, unexpected and mismatched
            tensors and says what the file is.
    """
    if isinstance(path, Checkpoint):
        checkpoint = path.below(prefix, encoder) if prefix else path
    else:
        checkpoint = read(path, map_location, prefix, encoder)
    target = module.state_dict()
    _check_is_backbone(module, target)
    weights = checkpoint.backbone(encoder)
    notes = [*diverged_in(weights), *_head_notes(checkpoint, module, heads), *_notes(checkpoint)]
    _check_activation(checkpoint, module)
    weights, resized = _named_for(module, target, checkpoint, weights, encoder)
    weights, adapted = fit_channels(weights, target)
    resized = [*resized, *adapted]
    if part is not None:
        weights, target = _only(part, weights), _only(part, target)
        if not target:
            raise ValueError(f'{type(module).__name__} has no tensor whose name starts with part={part!r}')
    left_out = _check_complete(checkpoint, weights, target, module)
    module.load_state_dict({key: weights.get(key, tensor) for key, tensor in target.items()}, strict=part is None)
    encoder = checkpoint.encoders[0] if len(checkpoint.encoders) == 1 else encoder
    source, said = f'{checkpoint.path}: {checkpoint.summary}', (*resized, *left_out, *notes)
    constants = {key: checkpoint.meta[key] for key in ('mean', 'std') if checkpoint.meta.get(key)}
    return LoadReport(source, encoder, len(target), said, constants)


@WEIGHT_INITIALIZERS.register_module()
class Pretrained:
    """MMEngine initialiser that loads a whole backbone or raises.

    Usable in every OpenMMLab config: ``init_cfg=dict(type='mocox.Pretrained', checkpoint='vit-s-300ep.pth.tar')``.
    Unlike MMEngine's initialiser of that name it recognises the file's layout, and nothing initialises over what it
    loaded.

    Args:
        checkpoint: Path of the file.
        prefix: See :func:`load_backbone`; rarely needed.
        encoder: ``query`` or ``momentum``.
        heads: See :func:`load_backbone`.
        map_location: Where the file's tensors are put first.
        part: See :func:`load_backbone`.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: str | None = None,
        encoder: str = 'query',
        heads: int | None = None,
        map_location: str = 'cpu',
        part: str | None = None,
    ) -> None:
        self.checkpoint, self.prefix, self.encoder = checkpoint, prefix, encoder
        self.heads, self.map_location, self.part = heads, map_location, part

    def __call__(self, module: nn.Module) -> None:
        """Load, then keep every later initialiser away from the module."""
        from mmengine.model.weight_init import update_init_info  # brings half of torch.distributed along

        configs = getattr(module, 'init_cfg', None)
        if isinstance(configs, list | tuple) and not str(configs[-1].get('type')).endswith('Pretrained'):
            raise ValueError(
                f'init_cfg of {type(module).__name__} lists {configs[-1].get("type")} after Pretrained and would '
                'overwrite the loaded weights: put Pretrained last, or alone'
            )
        report = load_backbone(
            module, self.checkpoint, self.encoder, self.prefix, self.heads, self.map_location, self.part
        )
        print_log(str(report), logger='current')
        module.pretrained_normalisation = report.normalisation  # type: ignore[assignment]
        self._protect(module)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=f'mocox.Pretrained: {report.source}')

    def _protect(self, module: Any) -> None:
        # MMEngine would now run the children's init_weights, and mmpretrain's ViT and ResNet go on with their own
        # unless the type is exactly 'Pretrained'. Each respects one of these two signs.
        module.init_cfg = {'type': 'Pretrained', 'checkpoint': self.checkpoint, 'prefix': self.prefix}
        for child in module.modules():
            if child is not module and hasattr(child, 'init_weights'):
                setattr(child, '_is_init' if hasattr(type(child), 'is_init') else 'is_init', True)


def _named_for(
    module: Any, target: Mapping[str, Tensor], checkpoint: Checkpoint, weights: dict[str, Tensor], encoder: str
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under the module's names, positions in its shape, with notes on what was changed."""
    place = {'query': 'backbone.', 'momentum': 'momentum_encoder.backbone.'}[encoder]
    weights, notes = fit_positions(weights, target, module, checkpoint.arch)
    for own in (checkpoint.original, strip(checkpoint.original, place)):
        if not notes and own.keys() == target.keys() and all(own[key].shape == target[key].shape for key in target):
            return dict(own), []  # of the very same class, whatever its names, for the same grid of patches
    inner = unwrap(target)
    ours = to_ours(inner, naming_of(inner))
    weights = without_zero_biases(weights, ours)
    if 'blocks.0.attn.proj.weight' in ours and has_layer_scale(weights) and not has_layer_scale(ours):
        weights = fold_layer_scale(weights)
        notes.append(f'LayerScale multiplied into the layers before it: {type(module).__name__} has none')
    if hasattr(module, 'timm_model'):
        weights, translated = as_timm(module.timm_model, weights)
        notes += translated
    return _with_names_of(target, weights), notes


def _check_is_backbone(module: nn.Module, target: Mapping[str, Tensor]) -> None:
    if any(key.startswith('backbone.') for key in target):
        raise ValueError(
            f'{type(module).__name__} is a whole model: give init_cfg to its backbone (model.backbone.init_cfg), or '
            'load_from a file of the same model'
        )


def _head_notes(checkpoint: Checkpoint, module: nn.Module, told: int | None) -> list[str]:
    built = module_heads(module)
    trained = told or checkpoint.arch.get('num_heads')
    if built is None or checkpoint.arch['family'] != 'vit':
        return []
    if trained is None:
        return [
            f'the file does not say its number of attention heads; {type(module).__name__} has {built}. Shapes are the '
            'same for any number, but features are right for one only (ViT-S: 12 in MoCo v3, 6 in DeiT and timm)'
        ]
    if trained != built:
        raise ValueError(
            f'{checkpoint.path} was trained with {trained} attention heads, {type(module).__name__} has {built}: the '
            f'shapes match, the results would not. Build the backbone with num_heads={trained}'
            + ('' if told else f', or pass heads={built} if you know better')
        )
    return []


def _check_activation(checkpoint: Checkpoint, module: nn.Module) -> None:
    trained, built = checkpoint.meta.get('activation'), module_activations(module)
    if trained and built and trained not in built:
        raise ValueError(
            f'{checkpoint.path} was trained with the activation {trained}, {type(module).__name__} has '
            f'{", ".join(sorted(built))}: the shapes match, the results would not. Build the backbone with {trained} '
            '(timm: act_layer)'
        )


def diverged_in(weights: Mapping[str, Tensor]) -> list[str]:
    """Return a sentence about non-finite numbers, none if all are finite."""
    wrong = [key for key, tensor in weights.items() if not (tensor.is_meta or tensor.isfinite().all())]
    return [f'NaN or infinite numbers in {bounded(wrong)}: the file is of a run that diverged'] if wrong else []


def _notes(checkpoint: Checkpoint) -> list[str]:
    notes = [*checkpoint.notes, *([_KIND_NOTES[checkpoint.kind]] if checkpoint.kind in _KIND_NOTES else [])]
    meta = checkpoint.meta
    if meta.get('channel_order'):
        other = 'BGR' if meta['channel_order'] == 'RGB' else 'RGB'
        notes.append(
            f'trained on {meta["channel_order"]} images, mean {meta.get("mean")}, std {meta.get("std")}: '
            f'a data_preprocessor that feeds {other} degrades it'
        )
    return notes


def _with_names_of(target: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    inner = unwrap(target)
    wrapper = next(iter(target)).removesuffix(next(iter(inner)))
    return {wrapper + key: tensor for key, tensor in from_ours(weights, naming_of(inner)).items()}


def _only(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in tensors.items() if key.startswith(part)}


def _check_complete(
    checkpoint: Checkpoint, weights: Mapping[str, Tensor], target: Mapping[str, Tensor], module: nn.Module
) -> list[str]:
    difference = tensor_difference(weights, target)
    ends = [end for end in _OPTIONAL_ENDS if not any(_has_end(key, end) for key in target)]
    surplus = [key for key in difference.unexpected if any(_has_end(key, end) for end in ends) or LEFTOVER.search(key)]
    difference = replace(difference, unexpected=[key for key in difference.unexpected if key not in surplus])
    if not difference.lines():
        return [f'not used, the module is built without: {bounded(surplus)}'] if surplus else []
    raise ValueError(
        '\n  '.join(
            [
                f'{checkpoint.path} does not fit {type(module).__name__}: {difference.num_fitting} of its '
                f'{len(target)} tensors match, nothing was loaded',
                *difference.lines(),
                f'the file: {checkpoint.summary}',
                f'the module: {_arch_of(target)["name"]}',
                _advice(difference.missing, difference.unexpected),
            ]
        ).rstrip()
    )


def _has_end(key: str, end: str) -> bool:
    return key.startswith(end) or (end == 'norm.' and key.startswith(('ln1.', 'layernorm.', 'encoder.ln.')))


def _arch_of(target: Mapping[str, Tensor]) -> dict:
    inner = unwrap(target)
    arch = describe(to_ours(inner, naming_of(inner)))
    return {**arch, 'name': arch['name'].partition(', INCOMPLETE')[0]}  # a module may be built without an end


def _advice(missing: list[str], unexpected: list[str]) -> str:
    if missing and all(key.startswith(('head.', 'fc.', 'heads.', 'classifier.')) for key in missing):
        return 'only the classifier is missing: build the module without one (timm: num_classes=0)'
    if any(key.endswith(_ONLY_TIMM) or 'mlp.fc1_g.' in key for key in unexpected):
        return f'registers, rotary positions and gated layers are in models of timm: {_TIMM_LINE}'
    return ''
