"""Set up a training of any runner as the command line does, before its first step."""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mocox import dist
from mocox.datasets import EncodedImages, ViewsDataset, collate_views
from mocox.engine import warm_start
from mocox.engine.momentum_hook import MomentumUpdateHook
from mocox.models import ViewsPreprocessor
from mocox.models.algorithms import MomentumContrast
from mocox.recipe import section
from mocox.registry import HOOKS


@HOOKS.register_module()
class SetupHook(Hook):
    """Pass the run's seed to our data sets, decide where to augment, and require ``MomentumUpdateHook``.

    With it, MMEngine's ``Runner`` and ``tools/train.py`` make the same run of a config.
    """

    priority = 'HIGHEST'
    measured: Mapping[str, Any] | None = None  # pixel settings of the checkpoint's run
    loaded: Mapping[str, Any] = MappingProxyType({})  # mean and deviation of the run that load_from names

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Restore the measured black and white level and bits; with ``load_from`` say what begins anew."""
        meta = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
        resumed = getattr(runner, '_resume', False)
        self.measured = meta.get('pixels', {} if resumed else None)
        if warm_start.is_training(runner) and not resumed:
            self.loaded = warm_start.normalisation_of(checkpoint)
            fitted = warm_start.fit_state(checkpoint, dist.unwrap(runner.model))
            for note in [warm_start.describe_restart(runner, checkpoint), *fitted]:
                runner.logger.info(note)

    def before_train(self, runner: Runner) -> None:
        """Set up before the loader starts its workers.

        Raises:
            ValueError: Nothing would move the momentum encoder: its keys would stay those of the first weights, and the
                loss would not show it.
        """
        model, loader = dist.unwrap(runner.model), runner.train_dataloader
        updated = any(isinstance(hook, MomentumUpdateHook) for hook in runner.hooks)
        if isinstance(model, MomentumContrast) and not updated:
            raise ValueError(
                'custom_hooks has no MomentumUpdateHook, so nothing would move the momentum encoder. A list in a '
                "config replaces the inherited one: add dict(type='MomentumUpdateHook') to yours"
            )
        _use_seed(loader.dataset, runner.seed)
        _use_measured(loader.dataset, self.measured)
        fixed = section(runner.cfg, 'train_dataloader', 'sampler').get('seed') is not None
        if hasattr(loader.sampler, 'seed') and not fixed:  # built before a checkpoint brought the seed of its run
            loader.sampler.seed = runner.seed
        if warning := warm_start.other_normalisation(model, self.loaded):
            runner.logger.warning(warning)
        if place_augmentation(loader, getattr(model, 'data_preprocessor', None)):
            runner.logger.info('Views are augmented by the loader workers.')

    def before_val(self, runner: Runner) -> None:
        """Read the images for validation as those for training."""
        _use_seed(runner.val_dataloader.dataset, runner.seed)
        training = getattr(getattr(runner._train_loop, 'dataloader', None), 'dataset', None)
        pixels = training.pixels.settings() if isinstance(training, EncodedImages) else self.measured
        _use_measured(runner.val_dataloader.dataset, pixels)

    def before_test(self, runner: Runner) -> None:
        """Read the images for a test as those that the checkpoint was trained on."""
        _use_seed(runner.test_dataloader.dataset, runner.seed)
        _use_measured(runner.test_dataloader.dataset, self.measured)


def _use_seed(dataset: Any, seed: int) -> None:
    if isinstance(dataset, ViewsDataset):
        dataset.use_seed(seed)


def _use_measured(dataset: Any, settings: Mapping[str, Any] | None) -> None:
    if isinstance(dataset, EncodedImages) and settings is not None:
        dataset.use_measured(settings)


def place_augmentation(loader: DataLoader, preprocessor: Any) -> bool:
    """Pass the preprocessor's views to the workers of a loader, if these are to augment.

    A loader with another ``collate_fn`` than ``collate_views``, or without a preprocessor of ours, is left alone; then
    the preprocessor augments.

    Returns:
        Whether the workers augment.
    """
    collate = loader.collate_fn
    function, arguments = (collate.func, collate.keywords) if isinstance(collate, partial) else (collate, {})
    if function is not collate_views or not isinstance(preprocessor, ViewsPreprocessor):
        return False
    arguments = {key: value for key, value in arguments.items() if key != 'views'}  # of a config that was completed
    if preprocessor.augments_in_workers(loader.num_workers):
        arguments['views'] = preprocessor.views
    loader.collate_fn = partial(collate_views, **arguments)
    return 'views' in arguments
