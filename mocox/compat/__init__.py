"""Every repair of a third-party library, in one place; each says which versions it is for and when it can be deleted.

``import mocox`` must not import MMEngine, and a repair must be in place before the repaired module is used, whichever
of the two is imported first. So each repair belongs to a module and runs as soon as that module has been imported.
"""

import contextlib
import copy
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import pickle
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from mocox.compat.installed import ask_importlib, find_without_loader
from mocox.terminal import indented

Repair = Callable[[ModuleType], None]


def find_configs_of_mocox(module: ModuleType) -> None:
    """Let ``_base_ = ['mocox::mocov3/vit-small.py']`` and ``mmengine.hub.get_config`` find the configs of mocox.

    For: every MMEngine (0.10.7) and onedl-mmengine (0.10.12); the libraries that may be named are a fixed table.
    Delete when: MMEngine looks up any installed package.
    """
    # The value is looked up as an installed distribution first, whose folder is wrong for an editable installation, and
    # then as a module, whose folder is right for every kind of installation: so this names a module of ours.
    module.MODULE2PACKAGE['mocox'] = 'mocox.version'


def allow_log_history(module: ModuleType) -> None:
    """Let ``torch.load(weights_only=True)`` read the log history that MMEngine stores in every checkpoint.

    For: MMEngine 0.10.7, which cannot resume without it. numpy arrays and scalars are plain data;
    ``getattr``, which pickle uses to name the four statistics of a history, is allowed for exactly those.
    Delete when: MMEngine allows its own classes, or stores plain numbers.
    """
    import numpy as np
    import torch

    history = module.HistoryBuffer

    def get_statistic(owner: Any, name: str) -> Callable:
        if owner is not history or name not in ('mean', 'min', 'max', 'current'):
            raise pickle.UnpicklingError(f'refused to read the attribute {name!r} of {owner!r} for a checkpoint')
        return getattr(owner, name)

    reconstruct: Any = np.ndarray(0).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    # numpy 2 moved its internals from numpy.core to numpy._core: a checkpoint of either must load under either.
    moved = [
        (function, f'numpy.{core}.multiarray.{function.__name__}')
        for core in ('core', '_core')
        for function in (reconstruct, scalar)
    ]
    dtypes = sorted({type(np.dtype(code)) for code in '?bhilqBHILQefd'}, key=str)
    statistics = (get_statistic, 'builtins.getattr')
    torch.serialization.add_safe_globals([history, statistics, np.ndarray, np.dtype, *moved, *dtypes])


def never_load_unsafely(module: ModuleType) -> None:
    """Take away the fallback that runs whatever code a checkpoint brings when loading it safely has failed.

    For: onedl-mmengine 0.10.12. MMEngine 0.10.7 leaves the choice to torch, whose default is safe.
    Delete when: onedl-mmengine no longer falls back to ``weights_only=False``.
    """
    if hasattr(module, '_safe_torch_load'):
        import torch

        def load(file: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
            return torch.load(file, map_location=map_location, weights_only=True)

        module._safe_torch_load = load  # type: ignore[attr-defined]


def resume_safely(module: ModuleType) -> None:
    """Let ``Runner.resume`` run nothing that a checkpoint holds, and read it into host memory.

    ``meta['config']``, which MMEngine itself no longer writes, is executed as a Python config there. And by default
    the whole file goes onto the GPU of every process, beside the model that it is then copied into.
    For: every MMEngine (0.10.7) and onedl-mmengine (0.10.12).
    Delete when: ``Runner.resume`` neither parses a config of the checkpoint nor loads it onto the device.
    """
    runner = module.Runner
    load, resume = runner.load_checkpoint, runner.resume

    @functools.wraps(load)
    def load_without_config(self: Any, *args: Any, **kwargs: Any) -> Any:
        checkpoint = load(self, *args, **kwargs)
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get('meta'), dict):
            checkpoint['meta'].pop('config', None)
        return checkpoint

    @functools.wraps(resume)
    def resume_from_host_memory(self: Any, filename: str, *args: Any, **kwargs: Any) -> None:
        if len(args) < 3 and kwargs.get('map_location', 'default') == 'default':
            kwargs['map_location'] = 'cpu'
        resume(self, filename, *args, **kwargs)

    runner.load_checkpoint, runner.resume = load_without_config, resume_from_host_memory


MAX_ALIASES = 20  # of a YAML file: they may stand in one another, and each level multiplies


def read_plain_yaml(module: ModuleType) -> None:
    """Let ``mmengine.load`` and configs in YAML hold plain values only.

    MMEngine reads YAML with the loader that builds any Python object: ``!!python/object/apply:os.system`` runs.
    For: every MMEngine (0.10.7) and onedl-mmengine (0.10.12).
    Delete when: MMEngine reads YAML with a safe loader. A few lines of aliases can still stand for billions of values.
    """
    import yaml

    class PlainLoader(yaml.SafeLoader):
        aliases = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.aliases += self.check_event(yaml.AliasEvent)
            if self.aliases > MAX_ALIASES:
                raise yaml.YAMLError(f'more than {MAX_ALIASES} aliases: write the values out')
            return super().compose_node(parent, index)

    module.Loader = PlainLoader  # type: ignore[attr-defined]


def escape_log_lines(module: ModuleType) -> None:
    """Let no foreign text steer the terminal through the log, or fake a line of it.

    For: every MMEngine (0.10.7) and onedl-mmengine (0.10.12), which write messages as they come.
    Delete when: ``MMFormatter`` escapes what is not printable and indents the lines of a message after the first.
    """
    plain = module.MMFormatter.format

    @functools.wraps(plain)
    def format_escaped(self: Any, record: Any) -> str:
        record = copy.copy(record)
        record.msg, record.args = indented(record.getMessage()), ()
        return plain(self, record)

    module.MMFormatter.format = format_escaped


def load_known_state(module: ModuleType) -> None:
    """Let a checkpoint set those attributes of a schedule that the schedule itself saves, and no others.

    For: every MMEngine (0.10.7) and onedl-mmengine (0.10.12), which set whatever a checkpoint names.
    Delete when: ``_ParamScheduler.load_state_dict`` looks at names.
    """
    load = module._ParamScheduler.load_state_dict

    @functools.wraps(load)
    def load_known(self: Any, state_dict: dict) -> None:
        load(self, {name: value for name, value in state_dict.items() if name in self.state_dict()})

    module._ParamScheduler.load_state_dict = load_known


def end_what_a_run_began(module: ModuleType) -> None:
    """Let what a hook has taken for a run be given back however ``train`` ends; see ``mocox.engine.run_end``.

    For: every MMEngine (0.10.7) and onedl-mmengine (0.10.12): an error in or before the loop is told to no hook.
    Delete when: there is a hook that is called whenever ``train`` has ended.
    """
    runner = module.Runner if hasattr(module, 'Runner') else module.FlexibleRunner
    train = runner.train

    @functools.wraps(train)
    def train_and_end(self: Any) -> Any:
        with vars(self).setdefault('endings', contextlib.ExitStack()):
            try:
                return train(self)
            finally:
                del self.endings  # of this training

    runner.train = train_and_end


def know_models_of_mocox(module: ModuleType) -> None:
    """Let ``mmpretrain.list_models``, ``get_model`` and the inferencers know the recipes of mocox by their names.

    Those of detection and segmentation apart, which mmpretrain cannot build.
    For: every mmpretrain (1.2.0) and onedl-mmpretrain, whose hub knows the models of mmpretrain alone.
    Delete when: its hub asks other installed packages for their models.
    """
    from modelindex.models.Model import Model

    from mocox.configs import config_folder, shipped_configs

    hub = module.ModelHub
    find_own, get = hub._register_mmpretrain_models.__func__, hub.get.__func__
    ours: set[str] = set()

    def find_all(cls: Any) -> None:
        find_own(cls)
        if not ours:
            package, known = Path(__file__).parents[1], set(cls._models_dict)
            root = package.parent if (package.parent / 'model-index.yml').is_file() else package / '.mim'
            cls.register_model_index(root / 'model-index.yml', config_prefix=root)
            for path in map(Path, shipped_configs()):  # those for images of one's own have no published row
                name = f'{path.parent.name}_{path.stem}'
                cls._models_dict.setdefault(name, Model(name=name, config=str(config_folder() / path)))
            ours.update(cls._models_dict.keys() - known)
            for name in [name for name in ours if name.startswith(('detection_', 'segmentation_'))]:
                ours.remove(name)
                del cls._models_dict[name]

    def get_any(cls: Any, model_name: str) -> Any:
        found = get(cls, model_name)
        if model_name.lower() in ours:
            found.config = _with_pipeline(found.config)
        return found

    hub._register_mmpretrain_models, hub.get = classmethod(find_all), classmethod(get_any)


def _with_pipeline(config: Any) -> Any:
    """A config of ours as mmpretrain's inferencers read one: its names are found in our scope, it has a pipeline."""
    config.model['_scope_'] = 'mocox'
    dataset: Any = (config.get('test_dataloader') or {}).get('dataset') or {}
    if 'crops' in dataset:
        dataset['pipeline'] = [dict(type='mocox.InferencerCrops', crops=dict(dataset['crops'], _scope_='mocox'))]
    return config


def build_models_of_mocox(module: ModuleType) -> None:
    """Let ``mmengine.hub.get_model('mocox::...')`` build a model.

    It asks a package for ``utils.register_all_modules``, which registries that import their own parts do not need.
    For: every MMEngine (0.10.7) and onedl-mmengine (0.10.12).
    Delete when: ``mmengine.hub.get_model`` does without.
    """
    stand_in: Any = ModuleType('mocox.utils', 'What MMEngine asks a package for.')
    stand_in.register_all_modules = lambda: None
    sys.modules['mocox.utils'] = stand_in


def repair_runner(module: ModuleType) -> None:
    """Both repairs of the same class."""
    resume_safely(module)
    end_what_a_run_began(module)


REPAIRS: dict[str, Repair] = {
    'mmengine.config.utils': find_configs_of_mocox,
    'mmengine.hub.hub': build_models_of_mocox,
    'mmengine.fileio.handlers.yaml_handler': read_plain_yaml,
    'mmengine.logging.history_buffer': allow_log_history,
    'mmengine.logging.logger': escape_log_lines,
    'mmengine.optim.scheduler.param_scheduler': load_known_state,
    'mmengine.runner.checkpoint': never_load_unsafely,
    'mmengine.runner.runner': repair_runner,
    'mmengine.runner._flexible_runner': end_what_a_run_began,
    'mmengine.utils.dl_utils.misc': find_without_loader,
    'mmengine.utils.package_utils': ask_importlib,
    'mmcv.utils.ext_loader': find_without_loader,
    'mmpretrain.apis.model': know_models_of_mocox,
}


def apply() -> None:
    """Repairs the modules that are imported already, and arranges for the others to be repaired when they are."""
    waiting = {}
    for name, repair in REPAIRS.items():
        if name in sys.modules:
            repair(sys.modules[name])
        else:
            waiting[name] = repair
    sys.meta_path.insert(0, _RepairAfterImport(waiting))


class _RepairAfterImport(importlib.abc.MetaPathFinder):
    """Finds a module as Python would and calls its repair after it has run."""

    def __init__(self, repairs: dict[str, Repair]) -> None:
        self.repairs = repairs

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        repair = self.repairs.pop(fullname, None)
        if repair is None:
            return None
        spec = importlib.util.find_spec(fullname)  # asks every finder again; this one no longer answers
        if spec is None or spec.loader is None:
            return spec
        run_module = spec.loader.exec_module

        def run_and_repair(module: ModuleType) -> None:
            run_module(module)
            repair(module)

        spec.loader.exec_module = run_and_repair  # type: ignore[method-assign]
        return spec
