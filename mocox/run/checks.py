"""Check a config before anything is built from it."""

import difflib
import inspect
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mocox.recipe import Recipe, type_of

if TYPE_CHECKING:
    from mmengine.config import Config

LOG_LEVELS = ('NOTSET', 'DEBUG', 'INFO', 'WARN', 'WARNING', 'ERROR', 'CRITICAL', 'FATAL')


def require_file(path: str, option: str, or_folder: bool = False) -> None:
    """Refuse a path that is not a file (or folder); URLs are left to the loader.

    Raises:
        FileNotFoundError: There is none.
    """
    if '://' not in path and not Path(path).is_file() and not (or_folder and Path(path).is_dir()):
        raise FileNotFoundError(f'{option}: there is no file {path}')


def check_options(config: 'Config', options: dict[str, Any]) -> None:
    """Refuse a ``--cfg-options`` that would be stored and never read.

    Args:
        config: As read from its file.
        options: Values by key, with dots.

    Raises:
        ValueError: Nothing reads one of the keys.
    """
    from mmengine.runner import Runner

    for key in options:
        if not key.isprintable() or ' ' in key:  # MMEngine cannot write such a config down
            raise ValueError(f'--cfg-options: {key!r} is not a key: write names with dots between them, and =VALUE')
    read = set(inspect.signature(Runner.__init__).parameters)
    known = {*config, *read}
    for key in {option.split('.')[0] for option in options} - known:
        nearest = difflib.get_close_matches(key, known, n=1)
        hint = f'; did you mean {nearest[0]}?' if nearest else ''
        raise ValueError(f'--cfg-options: nothing reads {key!r}{hint}')
    for key in (key for key, value in options.items() if not isinstance(value, dict)):
        if below := next((option for option in options if option.startswith(f'{key}.')), None):
            raise ValueError(f'--cfg-options: {key!r} gets a value, so there can be no {below!r} below it')
    for option in options:
        name, _, rest = option.partition('.')
        if name not in read and (copies := _copies(config, name)):
            places = ' '.join(f'{".".join([copy, *rest.split()])}=...' for copy in copies[:4])
            raise ValueError(
                f'--cfg-options: nothing reads {option!r}: {name} is a variable of the config file, and its value '
                f'has been copied by now. Set {places}'
            )


def _copies(config: 'Config', name: str) -> list[str]:
    """Other places where a config has the same value; numbers, which may be equal by chance, are left out."""
    value = config[name]
    if not value or not isinstance(value, (str, dict, list)):
        return []
    return [path for path, other in walk(config) if path.partition('.')[0] != name and other == value]


def walk(node: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Every value of a config, with its path."""
    if path:
        yield path, node
    items = node.items() if hasattr(node, 'items') else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in items:
        yield from walk(value, f'{path}.{key}' if path else str(key))


def is_views_dataset(dataset: object) -> bool:
    """True if a config builds a data set of mocox."""
    from mocox.datasets import ViewsDataset
    from mocox.registry import DATASETS

    kind = dataset.get('type') if isinstance(dataset, dict) else None
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind  # in a pure-Python config it is the class
    return inspect.isclass(kind) and issubclass(kind, ViewsDataset)


def check_channels(config: 'Config') -> None:
    """Refuse images whose channels differ from those that the model and the normalisation expect.

    Raises:
        ValueError: They differ; says what to set.
    """
    from mocox.datasets import Pixels
    from mocox.recipe import Recipe

    recipe = Recipe(config)
    if not is_views_dataset(recipe.dataset):
        return
    count, mean = Pixels.from_settings(recipe.dataset).num_channels, recipe.preprocessor.get('mean')
    built = recipe.backbone.get('in_channels', 3)
    if recipe.backbone and built != count:
        raise ValueError(
            f'the images have {count} channels and the backbone {built}: set model.backbone.in_channels={count}, or '
            'channels of the dataset'
        )
    if mean and len(mean) != count:
        raise ValueError(
            f'the images have {count} channels and data_preprocessor.mean {len(mean)}: give mean and std one level per '
            'channel (mocox doctor measures them)'
        )


def check_run(config: 'Config') -> None:
    """Refuse values that later errors would not name.

    Raises:
        FileNotFoundError: ``load_from`` does not exist.
        KeyError: No registry knows a component.
        NotADirectoryError: ``work_dir`` is a file.
        TypeError: A component does not take an argument.
        ValueError: Another value that cannot be.
    """
    from mocox.run.components import check_components  # imports torch

    if not isinstance(config.get('model', {}), dict):
        raise ValueError(f"model must be a dict with a type, such as dict(type='MoCoV3', ...), got {config.model!r}")
    scope = config.get('default_scope')
    if scope and find_spec(str(scope)) is None:
        raise ValueError(f'default_scope={scope!r}: there is no such package; that of this one is mocox')
    if config.get('log_level', 'INFO') not in LOG_LEVELS:
        raise ValueError(f'log_level={config.log_level!r}: choose one of {LOG_LEVELS}')
    seed = (config.get('randomness') or {}).get('seed')
    if seed is not None and not (isinstance(seed, int) and 0 <= seed < 2**32):
        raise ValueError(f'randomness.seed must be a whole number from 0 to 2**32 - 1, got {seed!r}')
    if Path(config.get('work_dir') or '.').is_file():
        raise NotADirectoryError(f'work_dir={config.work_dir!r} is a file, not a folder')
    check_channels(config)
    if config.get('load_from'):
        require_file(config.load_from, 'load_from')
    if config.get('train_dataloader'):
        _check_training(config)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        num_workers = (config.get(name) or {}).get('num_workers', 0)
        if not isinstance(num_workers, int) or num_workers < 0:
            raise ValueError(f'{name}.num_workers must be a whole number, 0 or more, got {num_workers!r}')
    for key in ('max_epochs', 'max_iters', 'val_interval'):
        value = (config.get('train_cfg') or {}).get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 1 or value % 1 != 0:  # inf, nan
            raise ValueError(f'train_cfg.{key} must be a whole number of at least 1, got {value!r}')
    check_components(config)


def _check_training(config: 'Config') -> None:
    """Refuse settings of MMEngine that a training here would ignore, or on which it would fail after an epoch."""
    train_cfg = config.get('train_cfg') or {}
    by_iterations = type_of(train_cfg) == 'IterBasedTrainLoop' or train_cfg.get('by_epoch') is False
    if by_iterations and config.get('default_scope') == 'mocox':
        raise ValueError(
            'train_cfg: mocox counts training in epochs; schedules and checkpoints do not support a loop of '
            "iterations. Use train_cfg=dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=N) with N = "
            'max_iters x batch size of all processes / number of images; '
            'default_hooks.checkpoint.iter_interval saves in between'
        )
    validates = bool(config.get('val_dataloader'))
    if validates and Recipe(config).algorithm:
        raise ValueError(
            'val_dataloader: a pre-training has no predictions to validate. Remove val_dataloader, val_evaluator and '
            'val_cfg; for k-NN on held-out images set default_hooks.monitor.knn_data_root=DIR'
        )
    hooks = [*(config.get('default_hooks') or {}).values(), *(config.get('custom_hooks') or [])]
    for hook in hooks if not validates else ():
        stops = isinstance(hook, dict) and type_of(hook) == 'EarlyStoppingHook'
        if stops or (isinstance(hook, dict) and hook.get('save_best')):
            raise ValueError(
                f'{"EarlyStoppingHook" if stops else "save_best"} acts on the scores of a validation, and this config '
                'has none (no val_dataloader), so it would do nothing: remove it. For the best of a pre-training keep '
                'all checkpoints (default_hooks.checkpoint.max_keep_ckpts=-1) and compare them with mocox evaluate'
            )
