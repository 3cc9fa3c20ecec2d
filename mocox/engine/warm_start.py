"""Runs that begin with trained weights: their origin, schedules that begin anew, normalisation of the images."""

from collections.abc import Mapping
from typing import Any

from mmengine.runner import Runner
from torch import nn

from mocox import dist
from mocox.checkpoint.fitting import fit_positions
from mocox.checkpoint.provenance import parse_config
from mocox.models import ViewsPreprocessor
from mocox.recipe import Recipe, section

SAME_LEVELS = 1.0  # of 0 to 255: constants that differ by less are the same, rounded


def is_training(runner: Runner) -> bool:
    """True if weights are loaded for a training, rather than for a test."""
    return not (runner._train_loop is None or isinstance(runner._train_loop, dict))


def starts_warm(runner: Runner, model: nn.Module) -> bool:
    """True if the backbone has trained weights before the first step."""
    return bool(runner._load_from and not runner._resume) or is_pretrained(model.backbone)


def is_pretrained(backbone: Any) -> bool:
    """True if its config gives it trained weights."""
    configs = getattr(backbone, 'init_cfg', None) or []
    kinds = [str(config.get('type')) for config in ([configs] if isinstance(configs, dict) else configs)]
    return any(kind.endswith('Pretrained') for kind in kinds) or bool(getattr(backbone, 'pretrained', False))


def describe_restart(runner: Runner, checkpoint: Mapping) -> str:
    """One line for ``load_from``: which run the weights are of, and with which numbers this one begins."""
    meta, batches = section(checkpoint, 'meta'), section(checkpoint, 'exact_resume')
    processes, epoch = batches.get('processes'), meta.get('epoch')
    then = Recipe(parse_config(meta.get('cfg')), processes if type(processes) is int else 1)
    told = [f'epoch {epoch}' + (f' of {then.epochs}' if then.epochs else '')] if type(epoch) is int else []
    told += [f'batch {then.batch_size}'] * bool(then.loader) + _side(then)
    now = Recipe(runner.cfg, dist.world_size())
    begins = [f'{runner.max_epochs} epochs', f'batch {now.batch_size}', *_side(now)]
    whose = f' of {", ".join(told)}' if told else ''
    return (
        f'load_from: weights{whose}, from {runner._load_from}. Learning rate, momentum and epochs begin anew: '
        f'{", ".join(begins)}. To go on with that run instead: --resume'
    )


def _side(recipe: Recipe) -> list[str]:
    size = recipe.crops.get('size')
    return [f'{size} px'] if type(size) is int else []


def fit_state(checkpoint: dict, model: nn.Module) -> list[str]:
    """Fits the positions of both encoders to the image size of a model, in the checkpoint; nothing else is changed.

    Returns:
        A note on each interpolation.
    """
    state = checkpoint.get('state_dict', checkpoint)
    notes: list[str] = []
    for encoder in ('backbone', 'momentum_encoder.backbone'):
        try:
            target = model.get_submodule(encoder).state_dict()
        except AttributeError:
            continue
        for name in (key for key in target if key.rpartition('.')[2] == 'pos_embed'):
            key = next((key for key in (f'{encoder}.{name}', f'module.{encoder}.{name}') if key in state), None)
            if key is None or state[key].shape == target[name].shape:
                continue
            fitted, found = fit_positions({'pos_embed': state[key]}, target, model.get_submodule(encoder), {})
            state[key], notes = fitted['pos_embed'], [*notes, *found]
    return list(dict.fromkeys(notes))


def normalisation_of(checkpoint: Mapping) -> dict[str, list[float]]:
    """Mean and deviation that the run of a checkpoint subtracted and divided by, if it says."""
    preprocessor = Recipe(parse_config(section(checkpoint, 'meta').get('cfg'))).preprocessor
    return {key: list(preprocessor[key]) for key in ('mean', 'std') if isinstance(preprocessor.get(key), list | tuple)}


def other_normalisation(model: nn.Module, loaded: Mapping[str, list[float]]) -> str | None:
    """A warning where images come with another mean or deviation than those that the weights were trained with.

    Args:
        model: With a backbone and a preprocessor of ours.
        loaded: Constants of the run that ``load_from`` names; else they are those of the file of the backbone, or
            those that the library of the model states.
    """
    backbone, preprocessor = getattr(model, 'backbone', None), getattr(model, 'data_preprocessor', None)
    if not isinstance(preprocessor, ViewsPreprocessor):
        return None
    trained = loaded or getattr(backbone, 'pretrained_normalisation', None)
    trained = trained or (is_pretrained(backbone) and getattr(backbone, 'normalisation', None)) or {}
    now = {key: getattr(preprocessor, key).flatten().tolist() for key in ('mean', 'std')}
    if set(trained) != set(now) or any(len(trained[key]) != len(now[key]) for key in now):
        return None
    if all(abs(a - b) < SAME_LEVELS for key in now for a, b in zip(trained[key], now[key])):
        return None
    ours, theirs = (', '.join(f'{key}={_rounded(values[key])}' for key in now) for values in (now, trained))
    options = ' '.join(f'data_preprocessor.{key}={_rounded(trained[key])}' for key in now)
    return (
        f'The weights were trained on images with {theirs}; this run has {ours} in its data_preprocessor, which the '
        f'weights do not know. To take theirs: --cfg-options {options}'
    )


def _rounded(values: list[float]) -> str:
    return '[' + ','.join(f'{value:g}' for value in (round(value, 3) for value in values)) + ']'
