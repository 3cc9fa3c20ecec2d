"""Find the tensors of a file: containers, wrappers, and the backbone inside them."""

import re
from collections.abc import Mapping

from torch import Tensor

from mocox.checkpoint import names
from mocox.checkpoint.architecture import describe

CONTAINERS = (
    *('state_dict', 'model', 'module', 'network', 'net', 'model_state_dict', 'model_state', 'classy_state_dict'),
    *('base_model', 'trunk', 'backbone', 'encoder', 'weights', 'params'),
)
AVERAGED = (
    *('state_dict_ema', 'model_ema', 'ema_state_dict', 'ema_model', 'ema', 'model_ema_state_dict'),
    *('ema_model_state_dict', 'swa_state_dict', 'swa_model', 'model_swa', 'swa_model_state_dict'),
)
MAX_NAME_CHARACTERS = 1000  # each wrapper that is taken off renames all tensors
_WRAPPERS = ('module.', 'model.', 'timm_model.', 'vit.')
_INSIDE = re.compile(r'\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.')
_COUNTERS = ('n_averaged',)  # beside the tensors of torch.optim.swa_utils.AveragedModel
_PACKED = re.compile(r'_packed_params(\._packed_params|_\w+)?$')  # of torch's quantised layers
_ADAPTER = re.compile(r'\.lora_(A|B|embedding_A|embedding_B)(\.|$)')
_FLAT = re.compile(r'(^|[._])flat_param')
_MUST_HAVE_AXES = re.compile(r'(cls_token|pos_embed|conv\d?\.weight|proj\.weight|qkv\.weight|fc\d?\.weight)$')
# Tensors that identify a backbone wherever it is, in any of ``names.BACKBONES``.
_ANCHORS = ('blocks.0.attn.qkv.weight', 'layer1.0.conv1.weight', *names.MARKS.values())


def find_tensors(
    content: Mapping, path: str, wanted: str = ''
) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """Return the tensors to use, and those of every other container.

    A student and a teacher, as DINO and iBOT keep them, are one set of tensors with these prefixes.

    Args:
        content: Of a file.
        path: Of it, for messages.
        wanted: The container that counts where nothing else tells which one does.

    Raises:
        ValueError: There are none, or several containers without a reason to prefer one.
    """
    _refuse_packed(content, path)
    others = {key: unwrap(found) for key, value in content.items() if (found := _below(value))}
    if {'student', 'teacher'} <= others.keys():
        both = {f'{part}.{key}': t for part in ('student', 'teacher') for key, t in others[part].items()}
        return both, {key: value for key, value in others.items() if key not in ('student', 'teacher')}
    chosen = next((key for key in (*CONTAINERS, *AVERAGED) if key in others), None)
    own = _own(content)
    if chosen is None and not own and (len(others) == 1 or wanted in others):
        chosen = wanted if wanted in others else next(iter(others))
    if chosen is None and not own and others:
        raise ValueError(f'{path} holds tensors in several places, {", ".join(others)}: choose one with --prefix')
    tensors = unwrap(own) if chosen is None else others[chosen]
    if chosen != wanted:
        others.pop(chosen, None)
    if not tensors:
        keys = ', '.join(map(str, list(content)[:6])) or 'nothing'
        raise ValueError(f'{path} has no tensors where a checkpoint has them; its top level holds: {keys}')
    refuse_parts(tensors, path)
    return tensors, others


def refuse_parts(tensors: Mapping[str, Tensor], path: str) -> None:
    """Refuse a file that holds only one process's part of a model.

    Raises:
        ValueError: Empty, flattened or scalar tensors in the place of weights; says what gathers them.
    """
    empty = [key for key, tensor in tensors.items() if not tensor.numel() and tensor.is_floating_point()]
    if empty:
        raise ValueError(
            f'{path} holds {len(empty)} tensors without numbers, such as {empty[0]}: the weights are elsewhere, as '
            "DeepSpeed's ZeRO-3 keeps them. Gather them with the zero_to_fp32.py that DeepSpeed has put beside them"
        )
    if adapters := [key for key in tensors if _ADAPTER.search(key)]:
        raise ValueError(
            f'{path} holds {len(adapters)} tensors of a LoRA adapter, such as {adapters[0]}: what is added to the '
            'weights of a model. Merge the two with merge_and_unload() of peft, and save that model'
        )
    flat = [key for key in tensors if _FLAT.search(key)]
    if any(key.endswith(_ANCHORS) for key in tensors):
        flat += [key for key, tensor in tensors.items() if tensor.ndim < 2 and _MUST_HAVE_AXES.search(key)]
    if flat:
        raise ValueError(
            f'{path} holds {flat[0]} with shape {tuple(tensors[flat[0]].shape)}: a shard of FSDP or a flattened model, '
            'not whole weights. Save it with StateDictType.FULL_STATE_DICT, or gather a folder of shards with '
            '`python -m torch.distributed.checkpoint.format_utils dcp_to_torch DIR FILE`'
        )


def _refuse_packed(content: object, path: str, depth: int = 4) -> None:
    """Refuse layers that torch has quantised: they keep their weights in tuples, which would be lost.

    Raises:
        ValueError: There are some.
    """
    if not isinstance(content, Mapping) or not depth:
        return
    for key, value in content.items():
        if isinstance(key, str) and _PACKED.search(key) and not isinstance(value, Tensor):
            raise ValueError(
                f'{path} holds {key}, the weights of a layer that torch has quantised: save the model before it is '
                'quantised, in float32 or bfloat16'
            )
        _refuse_packed(value, path, depth - 1)


def unwrap(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove what wrappers add to names: ``module.`` of data parallelism, ``_orig_mod.`` of ``torch.compile``, ...

    Raises:
        ValueError: Two tensors would get the same name, or one has a name that no network gives.
    """
    if too_long := next((key for key in tensors if len(key) > MAX_NAME_CHARACTERS), ''):
        raise ValueError(f'the file is refused: {too_long[:40]!r}... is a name of {len(too_long)} characters')
    clean = {_INSIDE.sub('', key): tensor for key, tensor in tensors.items() if key not in _COUNTERS}
    if len(clean) < sum(key not in _COUNTERS for key in tensors):
        raise ValueError('the file holds a tensor twice, with and without the prefix of a wrapper such as _orig_mod.')
    for prefix in _WRAPPERS:
        if clean and all(key.startswith(prefix) for key in clean):
            return unwrap({key[len(prefix) :]: tensor for key, tensor in clean.items()})
    return clean


def backbones_in(tensors: Mapping[str, Tensor]) -> list[str]:
    """Prefixes below which there is a backbone of a known architecture, whatever project has put it there."""
    ends = [(key, anchor) for key in tensors for anchor in _ANCHORS if key == anchor or key.endswith('.' + anchor)]
    return [prefix for prefix in dict.fromkeys(k.removesuffix(a) for k, a in ends) if _is_backbone(tensors, prefix)]


def _is_backbone(tensors: Mapping[str, Tensor], prefix: str) -> bool:
    found = {key[len(prefix) :]: tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    return describe(names.to_ours(found, names.naming_of(found)))['family'] != 'unknown'


def _own(content: Mapping) -> dict[str, Tensor]:
    return {key: value for key, value in content.items() if isinstance(value, Tensor) and isinstance(key, str)}


def _below(value: object, depth: int = 4) -> dict[str, Tensor]:
    """The tensors of a container; inside of it, of the first container that has some."""
    if not isinstance(value, Mapping) or not depth:
        return {}
    if own := _own(value):
        return own
    inside = [value[key] for key in CONTAINERS if key in value]
    return next((found for part in inside if (found := _below(part, depth - 1))), {})
