"""Check that a classifier has an output for each class of the images."""

from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mocox import dist
from mocox.datasets.classes import describe_labels, labelling_of, require_same_classes
from mocox.recipe import Recipe
from mocox.registry import HOOKS


@HOOKS.register_module()
class ClassesHook(Hook):
    """Compare the classes of labelled images with the outputs of the model's head before training and testing.

    A label without an output is an error (on a GPU it would be a failed assertion of a kernel), an output without a
    class a warning, since a recipe for 1,000 classes runs on 3. So are class folders that differ between training and
    validation an error: a label is a position among the sorted folders. Models without ``head.num_classes`` and images
    without labels are left alone.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Check the images of training and validation.

        Raises:
            ValueError: Their classes do not fit the head, or each other.
        """
        train = runner.train_dataloader.dataset
        _check(runner, 'train_dataloader', train)
        if runner.val_loop is not None:
            val = runner.val_dataloader.dataset
            _check(runner, 'val_dataloader', val, warn=False)
            require_same_classes(labelling_of(train), labelling_of(val), ('training', 'validation'))
            _check_metrics(runner, 'val_evaluator', runner.val_loop)

    def before_test(self, runner: Runner) -> None:
        """Check the images of the test.

        Raises:
            ValueError: Their classes do not fit the head.
        """
        _check(runner, 'test_dataloader', runner.test_dataloader.dataset)
        _check_metrics(runner, 'test_evaluator', getattr(runner, 'test_loop', None))


def _check_metrics(runner: Runner, name: str, loop: Any) -> None:
    """Refuse a top-5 of fewer classes, which mmpretrain reports only after the first epoch."""
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
    outputs, labelling = getattr(head, 'num_classes', None), labelling_of(dataset)
    if outputs is None or labelling is None:
        return
    labels, needed = labelling.numbers, max(max(labelling.numbers) + 1, len(labelling.classes or ()))
    if needed == outputs:
        return
    have = (f'{needed} classes, ' if labelling.classes else '') + describe_labels(labels)
    fix = f'--cfg-options model.head.num_classes={needed}'
    if 'num_classes' in Recipe(runner.cfg).preprocessor:
        fix += f' data_preprocessor.num_classes={needed}'
    if needed > outputs:
        from_0 = f'count the labels from 0 (subtract {min(labels)}), or ' if needed - min(labels) <= outputs else ''
        raise ValueError(
            f'model.head.num_classes={outputs} has labels up to {outputs - 1}, but the images of {loader} have '
            f'{have}: {from_0}set {fix}'
        )
    if warn:
        runner.logger.warning(
            f'model.head.num_classes={outputs}, but the images of {loader} have {have}: the other '
            f'outputs never get an image. For {needed} outputs: {fix}'
        )
