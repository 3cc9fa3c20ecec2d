"""Whether a classifier has an output for each class of the images, and what the classes are."""

from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mocox import dist
from mocox.datasets.classes import class_difference
from mocox.recipe import Recipe
from mocox.registry import HOOKS


@HOOKS.register_module()
class ClassesHook(Hook):
    """Compares the classes of labelled images with the outputs of the model's head before training and testing.

    A label without an output is an error (on a GPU it would be a failed assertion of a kernel), an output without a
    class a warning, since a recipe for 1,000 classes runs on 3. So are class folders that differ between training and
    validation an error: a label is a position among the sorted folders. Models without ``head.num_classes`` and images
    without labels are left alone.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Looks at the images of training and validation.

        Raises:
            ValueError: Their classes do not fit the head, or each other.
        """
        train = runner.train_dataloader.dataset
        _check(runner, 'train_dataloader', train)
        if runner.val_loop is not None:
            val = runner.val_dataloader.dataset
            _check(runner, 'val_dataloader', val, warn=False)
            _compare(train, val)
            _check_metrics(runner, 'val_evaluator', runner.val_loop)

    def before_test(self, runner: Runner) -> None:
        """Looks at the images of the test.

        Raises:
            ValueError: Their classes do not fit the head.
        """
        _check(runner, 'test_dataloader', runner.test_dataloader.dataset)
        _check_metrics(runner, 'test_evaluator', getattr(runner, 'test_loop', None))


def _check_metrics(runner: Runner, name: str, loop: Any) -> None:
    """Of few classes there is no top-5, which mmpretrain says after the first epoch of training."""
    outputs = getattr(getattr(dist.unwrap(runner.model), 'head', None), 'num_classes', None)
    for number, metric in enumerate(getattr(getattr(loop, 'evaluator', None), 'metrics', [])):
        asked = max(np.atleast_1d(getattr(metric, 'topk', None) or 0))
        if outputs is not None and asked > outputs:
            place = name if isinstance(runner.cfg.get(name), dict) else f'{name}.{number}'
            raise ValueError(
                f'{name} asks for the top-{asked} accuracy, and the model has {outputs} classes: set --cfg-options '
                f'{place}.topk=1'
            )


def _check(runner: Runner, loader: str, dataset: Any, warn: bool = True) -> None:
    head = getattr(dist.unwrap(runner.model), 'head', None)
    outputs, classes = getattr(head, 'num_classes', None), _count_classes(dataset)
    if outputs is None or classes is None or classes == outputs:
        return
    fix = f'--cfg-options model.head.num_classes={classes}'
    if 'num_classes' in Recipe(runner.cfg).preprocessor:
        fix += f' data_preprocessor.num_classes={classes}'
    if classes > outputs:
        raise ValueError(
            f'model.head.num_classes={outputs}, but the images of {loader} have {classes} classes, with labels up to '
            f'{classes - 1}: set {fix}'
        )
    if warn:
        runner.logger.warning(
            f'model.head.num_classes={outputs}, but the images of {loader} have {classes} classes: the other '
            f'{outputs - classes} outputs never get an image. For {classes} outputs: {fix}'
        )


def _count_classes(dataset: Any) -> int | None:
    """The number of classes by their names and by the largest label; None where there are no labels."""
    labels = getattr(dataset, 'labels', None)
    if np.ndim(labels) != 1 or not len(labels) or not getattr(dataset, 'with_labels', True):
        return None
    return max(int(np.max(labels)) + 1, len(getattr(dataset, 'classes', None) or []))


def _compare(train: Any, val: Any) -> None:
    ours, theirs = (getattr(dataset, 'classes', None) for dataset in (train, val))
    labelled = all(_count_classes(dataset) is not None for dataset in (train, val))
    difference = class_difference(ours, theirs, ('training', 'validation')) if labelled else ''
    if not difference:
        return
    raise ValueError(
        f'training and validation have different classes ({difference}): a label is the '
        'position of a folder among the sorted folders, so the same label would mean different classes. Give both the '
        'same class folders, or name those to use: train_dataloader.dataset.classes=[...]'
    )
