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

_BUILT = (MODELS, WEIGHT_INITIALIZERS, DATASETS, TRANSFORMS, DATA_SAMPLERS, FUNCTIONS)  # from a foreign config
# Of other libraries such a config may name layers only. Their data sets and some heads unpickle what a config
# names, and language models run the code of a downloaded folder.
_LAYERS = (
    *('torch.nn.', 'mmcv.cnn.', 'mmengine.model.', 'mmpretrain.models.classifiers.image.'),
    *(f'mmpretrain.models.{part}.' for part in ('backbones', 'necks', 'losses', 'heads.cls_head', 'heads.linear_head')),
)
_REMOTE = ('hf-hub:', 'hf_hub:', 'local-dir:')  # timm's


def require_registered(config: Any, source: object, scope: str = 'mocox') -> None:
    """Refuse a config that came with data if it could do more than build components of ours and layers.

    A registry resolves a name that it does not know by importing it, so ``type='os.system'`` in a stranger's file would
    run a command. Call this before anything is built from a config that was read out of a work dir, a checkpoint or a
    dump.

    Args:
        config: Dicts, lists and values, nested.
        source: Where it was read, for the message.
        scope: Where names without a prefix are looked up first.

    Raises:
        ValueError: A ``type`` is not the name of a registered component, or is one that reads more than weights and
            images; or a value asks for a download.
    """
    if isinstance(config, Mapping):
        scope = config.get('_scope_', scope)
        if 'type' in config and not _is_registered(config['type'], scope):
            raise ValueError(
                f'{source}: type={config["type"]!r} is not a registered component that a config which comes with data '
                'may name: those of mocox, layers and backbones of mmcv and mmpretrain, and what you have registered '
                'in mocox before'
            )
        layer = config.get('norm_layer')  # timm's backbones resolve it like a type
        if isinstance(layer, str) and '.' in layer and not _is_registered(layer, scope):
            raise ValueError(f'{source}: norm_layer={layer!r} is not a registered layer')
        if config.get('pretrained') is True:
            raise ValueError(f'{source}: pretrained=True is refused: a config that comes with data may not download')
        config = list(config.values())
    if isinstance(config, str) and ('://' in config or config.startswith(_REMOTE)):
        raise ValueError(f'{source}: {config!r} is refused: a config that comes with data may not name an address')
    if isinstance(config, list | tuple):
        for item in config:
            require_registered(item, source, scope)


def _is_registered(name: object, scope: object) -> bool:
    if not isinstance(name, str) or not isinstance(scope, str):
        return False
    prefix, _, bare = name.rpartition('.')
    found = [kind for own in _BUILT if (kind := _resolve(own, prefix or scope, bare)) is not None]
    return bool(found) and all(is_own or f'{kind.__module__}.'.startswith(_LAYERS) for kind, is_own in found)


def find_layer(name: str) -> type | None:
    """The class registered under a name, with or without its scope; unlike ``MODELS.get``, nothing is imported."""
    prefix, _, bare = name.rpartition('.')
    found = _resolve(MODELS, prefix or 'mocox', bare)
    return found[0] if found else None


def _resolve(own: Registry, scope: str, name: str) -> tuple[Any, bool] | None:
    """Resolve a name in a registry of ours; also tells whether it is registered in mocox itself."""
    if scope not in ('mocox', 'mmengine', 'mmpretrain'):
        return None
    if scope == 'mmpretrain' and find_spec(scope):
        import_module('mmpretrain.registry')
    for registry in (own.parent.children.get(scope), own.parent):
        if registry is not None:
            registry.import_from_location()
            if name in registry.module_dict:
                return registry.module_dict[name], registry is own
    return None
