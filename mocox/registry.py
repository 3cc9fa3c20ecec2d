"""The registries of mocox: direct children of MMEngine's root registries, scope ``mocox``.

They hang below the root itself, not below another library, so that any OpenMMLab config reaches a component as
``type='mocox.MoCoViT'``. The modules in ``locations`` are imported when a lookup first reaches the scope. Registries
without components of ours are there for users', and because MMEngine warns of a scope that lacks them.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mmengine import registry as root
from mmengine.registry import Registry


def _child(parent: Registry, *locations: str) -> Registry:
    return Registry(parent.name, parent=parent, scope='mocox', locations=list(locations) or ['mocox.registry'])


MODELS = _child(root.MODELS, 'mocox.models')
MODEL_WRAPPERS = _child(root.MODEL_WRAPPERS, 'mocox.models')
WEIGHT_INITIALIZERS = _child(root.WEIGHT_INITIALIZERS, 'mocox.checkpoint')
DATASETS = _child(root.DATASETS, 'mocox.datasets')
TRANSFORMS = _child(root.TRANSFORMS, 'mocox.datasets')
DATA_SAMPLERS = _child(root.DATA_SAMPLERS, 'mocox.datasets')
FUNCTIONS = _child(root.FUNCTIONS, 'mocox.datasets')
HOOKS = _child(root.HOOKS, 'mocox.engine', 'mocox.monitors', 'mocox.report.hook')
LOOPS = _child(root.LOOPS, 'mocox.engine')
LOG_PROCESSORS = _child(root.LOG_PROCESSORS)
OPTIMIZERS = _child(root.OPTIMIZERS, 'mocox.engine')
OPTIM_WRAPPERS = _child(root.OPTIM_WRAPPERS, 'mocox.engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(root.OPTIM_WRAPPER_CONSTRUCTORS)
PARAM_SCHEDULERS = _child(root.PARAM_SCHEDULERS, 'mocox.engine')
METRICS = _child(root.METRICS, 'mocox.evaluation')
EVALUATOR = _child(root.EVALUATOR)
VISUALIZERS = _child(root.VISUALIZERS)
VISBACKENDS = _child(root.VISBACKENDS, 'mocox.engine')

_FOREIGN_SCOPES = ('mocox', 'mmengine', 'mmpretrain', 'mmdet', 'mmseg')  # libraries that a foreign config may name
_BUILT = (MODELS, WEIGHT_INITIALIZERS, DATASETS, TRANSFORMS, DATA_SAMPLERS, FUNCTIONS)  # what such a config builds


def require_registered(config: Any, source: object) -> None:
    """Refuses a config that came with data if any ``type`` in it is not a registered component.

    A registry resolves a name that it does not know by importing it, so ``type='os.system'`` in a stranger's file would
    run a command. Call this before anything is built from a config that was read out of a work dir, a checkpoint or a
    dump.

    Args:
        config: Dicts, lists and values, nested.
        source: Where it was read, for the message.

    Raises:
        ValueError: A ``type`` is not the name of a registered component.
    """
    if isinstance(config, Mapping):
        if 'type' in config and not _is_registered(config['type']):
            raise ValueError(
                f'{source}: type={config["type"]!r} is not a registered component. A config that comes with data '
                f'may only name components of {", ".join(_FOREIGN_SCOPES)}, or of modules imported before'
            )
        config = list(config.values())
    if isinstance(config, list | tuple):
        for item in config:
            require_registered(item, source)


def _is_registered(name: object) -> bool:
    if not isinstance(name, str):
        return False
    scope, _, bare = name.rpartition('.')
    if scope not in ('', *_FOREIGN_SCOPES):
        return False
    return any(bare in registry.module_dict for own in _BUILT for registry in _registries(own, scope))


def _registries(own: Registry, scope: str) -> list[Registry]:
    """Those in which a lookup may find a name of this scope, filled; without a scope, all of them."""
    parent = own.parent
    for library in _FOREIGN_SCOPES[2:]:
        if scope == library and library not in parent.children and find_spec(library):
            import_module(f'{library}.registry')
    found = [child for name, child in parent.children.items() if name in _FOREIGN_SCOPES and scope in ('', name)]
    found += [parent] if scope in ('', 'mmengine') else []
    for registry in found:
        registry.import_from_location()
    return found
