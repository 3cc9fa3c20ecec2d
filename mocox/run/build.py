"""Build a ``Runner`` from a config."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mocox import dist
from mocox.processes import group
from mocox.run.checks import check_run, require_file
from mocox.terminal import say

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.runner import Runner


def build_runner(config: 'Config', for_training: bool = True) -> 'Runner':
    """Join the processes of the run and build its ``Runner``.

    Args:
        config: As :func:`mocox.run.options.prepare_config` gives it.
        for_training: False leaves the work dir to a training that may be going on there.

    Raises:
        ValueError: The config cannot be run, or another process trains in its work dir.
    """
    from mocox.engine.run_end import at_end, lock_work_dir, unlock_work_dir

    if (config.get('randomness') or {}).get('deterministic'):
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # torch's condition; read when CUDA starts
    group.start(config.launcher, config.get('env_cfg', {}).get('dist_cfg', {}).get('timeout', 600))
    if not for_training or not config.get('train_dataloader') or dist.rank() != 0:
        return _build(config)
    lock_work_dir(config.work_dir)  # before the search for its newest checkpoint
    try:
        runner = _build(config)
    except BaseException:
        unlock_work_dir(config.work_dir)
        raise
    at_end(runner, partial(unlock_work_dir, config.work_dir))
    return runner


def _build(config: 'Config') -> 'Runner':
    from mmengine.registry import RUNNERS

    from mocox.run.console import QuietRunner

    find_resume(config)
    check_run(config)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if config.get(name):
            _drop_refused(config[name])
    return RUNNERS.build(config) if 'runner_type' in config else QuietRunner.from_cfg(config)


def _drop_refused(loader: dict) -> None:
    """Drop options of a loader that torch would refuse or warn of."""
    import torch

    if not torch.cuda.is_available():
        loader.pop('pin_memory', None)  # torch would warn
    if loader.get('num_workers') == 0:
        loader.pop('persistent_workers', None)
        loader.pop('prefetch_factor', None)


def require_test_data(config: 'Config', path: str) -> None:
    """Refuse a config without test data, such as one for pre-training, before anything is built."""
    if config.get('test_dataloader') is None:
        raise ValueError(
            f'{path} has no test_dataloader: it is a recipe for training. Test with the config of the linear '
            'evaluation, such as configs/mocov3/vit-small_linear.py'
        )


def load_for_test(runner: 'Runner', path: str) -> None:
    """Load all of a checkpoint into the runner's model.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The checkpoint and the model do not hold the same tensors, or it has learned other classes.
    """
    from mmengine.hooks import Hook

    from mocox.checkpoint.bombs import refuse_bombs
    from mocox.checkpoint.completeness import require_same_model

    class CompletenessHook(Hook):
        """Compare between reading and loading, after other hooks have made their changes."""

        def after_load_checkpoint(self, runner: 'Runner', checkpoint: dict) -> None:
            require_same_model(checkpoint, dist.unwrap(runner.model), path)

    require_file(path, 'CHECKPOINT')
    refuse_bombs(Path(path))
    hook = CompletenessHook()
    runner.register_hook(hook, 'LOWEST')
    try:
        checkpoint = runner.load_checkpoint(path, strict=True)
    except RuntimeError as error:
        raise ValueError(f'{path} is not a checkpoint: {str(error).splitlines()[0]}') from error
    finally:
        runner.hooks.remove(hook)
    _compare_classes(checkpoint, runner.test_dataloader.dataset, path)


def _compare_classes(checkpoint: dict, dataset: object, path: str) -> None:
    """Refuse other class folders, in which a label means another class."""
    from mocox.datasets import ViewsDataset
    from mocox.datasets.classes import Labelling, labelling_of, require_same_classes

    meta = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
    learned = Labelling(meta.get('classes'), meta.get('labels'))
    tested = labelling_of(dataset) if isinstance(dataset, ViewsDataset) else None
    if tested:
        num_tested = len(tested.classes or tested.numbers)
        subject = f'{path} has learned {len(learned.numbers)} classes and the test images have {num_tested}, which are'
        require_same_classes(learned, tested, ('training', 'test'), subject)


def find_resume(config: 'Config') -> None:
    """Set the checkpoint to resume from in the config: an intact one, the same for all processes.

    In a process that torchrun has started in place of a failed one it is the newest of the work dir, whatever the
    command line says: that was for the first start.

    Raises:
        ValueError: The checkpoint named by ``--resume`` is damaged, or that of ``load_from`` a bomb.
    """
    from mocox.checkpoint.bombs import refuse_bombs
    from mocox.checkpoint.durable import verify
    from mocox.engine.preemption_hook import was_restarted
    from mocox.engine.resume import newest_for_all

    asked, named = config.get('resume'), config.get('load_from')
    if asked is True and not named:
        asked = 'auto'  # as MMEngine understands it
    if asked == 'auto' or was_restarted():
        found = newest_for_all(config.work_dir, lambda level, text: say(f'--resume: {text}'))
        if found:
            config.resume, config.load_from = True, found
            return
        config.resume = asked is True
        if dist.rank() == 0:
            where = f'{config.work_dir} holds no checkpoint yet'
            say(f'--resume: {where}, so training starts from the beginning')
    elif named and Path(named).is_file():
        verify(named) if asked else refuse_bombs(Path(named))
