"""Resolve every ``type`` of a config and hold its arguments against the signature, before anything is built."""

import difflib
import inspect
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mmengine import registry as root
from mmengine.registry import Registry

from mocox import registry
from mocox.run.arguments import argument_names, describe_argument, describe_untyped, passes_on

if TYPE_CHECKING:
    from mmengine.config import Config

# The key under which a ``type`` stands decides the registry that resolves it, and so do all keys below it.
REGISTRIES: dict[str, Registry] = {
    'model': registry.MODELS,
    'data_preprocessor': registry.MODELS,
    'init_cfg': registry.WEIGHT_INITIALIZERS,
    'dataset': registry.DATASETS,
    'crops': registry.TRANSFORMS,
    'pipeline': registry.TRANSFORMS,
    'sampler': registry.DATA_SAMPLERS,
    'collate_fn': root.FUNCTIONS,  # the Runner asks the root, whatever the default scope
    'optim_wrapper': registry.OPTIM_WRAPPERS,
    'optimizer': registry.OPTIMIZERS,
    'param_scheduler': registry.PARAM_SCHEDULERS,
    'default_hooks': registry.HOOKS,
    'custom_hooks': registry.HOOKS,
    'val_evaluator': registry.METRICS,
    'test_evaluator': registry.METRICS,
    'train_cfg': root.LOOPS,
    'val_cfg': root.LOOPS,
    'test_cfg': root.LOOPS,
    'visualizer': root.VISUALIZERS,
    'vis_backends': root.VISBACKENDS,
    'log_processor': root.LOG_PROCESSORS,
    'model_wrapper_cfg': root.MODEL_WRAPPERS,
}
# Arguments that MMEngine itself takes out before it builds the object.
TAKEN_BY_MMENGINE = {
    'param_scheduler': {'convert_to_iter_based'},
    'optim_wrapper': {'optimizer', 'paramwise_cfg', 'constructor'},
    'default_hooks': {'priority'},
    'custom_hooks': {'priority'},
    'train_cfg': {'by_epoch'},
}

_TAKEN_BY_MMCV = {'norm_cfg': {'requires_grad'}}
_PARTS = ('backbone', 'neck', 'head', 'predictor', 'loss', 'norm_cfg', 'data_preprocessor')  # of a model


def typed(
    node: Any, key: str = '', owner: str = '', scope: str = 'mocox'
) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """All dicts with a ``type`` below ``node``: (where, registry key, scope, the dict)."""
    if isinstance(node, list | tuple):
        for i, item in enumerate(node):
            yield from typed(item, f'{key}[{i}]', owner, scope)
    elif isinstance(node, Mapping):
        scope = node.get('_scope_', scope)
        if 'type' in node:
            yield key, owner, scope, node
        for name, child in node.items():
            decides = name in REGISTRIES and owner != 'default_hooks'  # there the keys are names of hooks
            if owner == 'model':  # whose parts may have parts of such names: samplers and settings of a detector
                decides = name == 'init_cfg'
            yield from typed(child, f'{key}.{name}' if key else name, name if decides else owner, scope)


def resolve(owner: str, scope: str, name: Any) -> Any:
    """The component of this name in the registry of a key; None if there is none. A class is its own answer."""
    if not isinstance(name, str):
        return name
    try:
        if owner == 'collate_fn':
            return root.FUNCTIONS.get(name)
        with REGISTRIES[owner].switch_scope_and_registry(scope) as scoped:
            return scoped.get(name)
    except (ImportError, RuntimeError):  # MMEngine's word for a dotted path that cannot be imported
        return None


def check_components(config: 'Config | Mapping[str, Any]') -> None:
    """Refuse components that no registry knows, and arguments that a component does not take.

    Left to the building: parts at other places than usual, since a component may look their names up in a registry of
    its own or take out some of their arguments itself; and arguments of a class that passes on what it does not name.

    Raises:
        KeyError: An unknown component; names the nearest ones.
        TypeError: An argument that the component does not take; names the nearest ones.
        ValueError: A hook without a type.
    """
    settings: dict[str, Any] = dict(config.items())  # MMEngine's Config is not a mapping
    for name, kind in _loops(settings).items():
        settings[name] = dict(settings[name], type=kind)
    hooks = [*(config.get('default_hooks') or {}).values(), *(config.get('custom_hooks') or [])]
    for hook in hooks:
        if isinstance(hook, Mapping) and 'type' not in hook:
            raise ValueError(describe_untyped(dict(hook)))
    for key, owner, scope, part in typed(settings, scope=config.get('default_scope') or 'mmengine'):
        if owner not in REGISTRIES or not _is_certain(key, owner):
            continue
        component = resolve(owner, scope, part['type'])
        if component is None:
            raise KeyError(describe_unknown(part['type'], REGISTRIES[owner], scope))
        elif inspect.isclass(component) and not passes_on(component):
            taken = {'type', '_scope_'} | TAKEN_BY_MMENGINE.get(owner, set()) | _TAKEN_BY_MMCV.get(_last(key), set())
            known = list(argument_names(component))
            for name in part:
                if name not in taken and name not in known:
                    raise TypeError(describe_argument(component, name, known))


def _loops(settings: dict[str, Any]) -> dict[str, str]:
    """The loop that MMEngine takes for each setting of a loop without a type."""
    train = settings.get('train_cfg') or {}
    kinds = dict(
        train_cfg='EpochBasedTrainLoop' if train.get('by_epoch', True) else 'IterBasedTrainLoop',
        val_cfg='ValLoop',
        test_cfg='TestLoop',
    )
    return {
        name: kind
        for name, kind in kinds.items()
        if isinstance(settings.get(name), dict) and 'type' not in settings[name]
    }


def _is_certain(key: str, owner: str) -> bool:
    """True for places whose content is built as it stands, from the registry of their key."""
    last = _last(key)
    return last == owner or (owner == 'model' and last in _PARTS) or key.rpartition('.')[0] == 'default_hooks'


def _last(key: str) -> str:
    return re.sub(r'\[\d+\]$', '', key.rpartition('.')[2])


def describe_unknown(name: str, kind: Registry, scope: str) -> str:
    """The message for a component that a registry does not know."""
    package, _, _ = name.rpartition('.')
    if package and '.' not in package and find_spec(package) is None:
        return f'{name!r} is not available: the package {package} is not installed'
    scope = 'mmengine' if kind is root.FUNCTIONS else scope
    with kind.switch_scope_and_registry(scope) as registry_in_use:
        own = [*registry_in_use.module_dict]
    top = kind
    while top.parent is not None:
        top = top.parent
    known = list(dict.fromkeys([*own, *top.module_dict]))
    for child_scope, child in top.children.items():
        known += [f'{child_scope}.{key}' for key in child.module_dict]
    by_bare_name: dict[str, list[str]] = {}  # in lower case: a wrong capital is the most frequent mistake
    for key in known:
        by_bare_name.setdefault(key.rpartition('.')[2].lower(), []).append(key)
    matches = difflib.get_close_matches(name.rpartition('.')[2].lower(), by_bare_name, n=3)
    nearest = [key for match in matches for key in by_bare_name[match]][:3]
    hint = f'did you mean {" or ".join(nearest)}?' if nearest else f'it knows {", ".join(sorted(own))}'
    return f'there is no {name!r} in the {kind.name} registry of scope {registry_in_use.scope}; {hint}'
