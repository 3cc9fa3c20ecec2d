"""The registries of mocox: direct children of MMEngine's root registries, scope ``mocox``.

They hang below the root itself, not below another library, so that any OpenMMLab config reaches a component as
``type='mocox.MoCoViT'``. The modules in ``locations`` are imported when a lookup first reaches the scope. Registries
without components of ours are there for users', and because MMEngine warns of a scope that lacks them.
"""

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
