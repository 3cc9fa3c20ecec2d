"""What the command-line tools share: their arguments, the config these change, and errors a person can act on."""

import argparse
import inspect
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

from mocox import dist, errors
from mocox.config_checks import check_options, check_run, require_file

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.runner import Runner

# What a person can cause and cure. Anything else is a bug, and its traceback is wanted.
USER_ERRORS = (ValueError, TypeError, KeyError, OSError, ImportError, SyntaxError, UnpicklingError)

MEMORY_ADVICE = (
    'the GPU ran out of memory. Add --amp; or keep the batch and compute it in parts with --cfg-options '
    'model.chunk_size=64 (the same result without BatchNorm in the backbone); or lower train_dataloader.batch_size'
)


def run_tool(main: Callable[[], None]) -> None:
    """Runs a tool; a user's mistake ends it with one paragraph and exit code 1 instead of a traceback.

    ``MOCOX_DEBUG=1`` keeps the traceback. Of several processes, the first of each machine explains, the others say one
    line.
    """
    for message in ('pkg_resources is deprecated', 'Fail to import ``MultiScaleDeformableAttention``'):  # of mmcv
        warnings.filterwarnings('ignore', message)
    try:
        main()
        dist.finish()
    except KeyboardInterrupt:
        sys.exit('\ninterrupted')
    except Exception as error:
        dist.await_verdict(error)
        out_of_memory = type(error).__name__ == 'OutOfMemoryError'  # torch's, without importing torch
        worker_failure = errors.is_worker_failure(error)
        curable = out_of_memory or isinstance(error, USER_ERRORS) or worker_failure or errors.is_refusal(error)
        if worker_failure:
            _end_workers()
        if os.environ.get('MOCOX_DEBUG') == '1' or not curable:
            dist.finish(failure=f'{type(error).__name__}: {error}'[:300])
            raise
        sys.stdout.flush()
        line_start = '\n' if sys.stderr.isatty() else ''  # a progress line may be standing there
        message = MEMORY_ADVICE if out_of_memory else errors.explain(error)
        rank = int(os.environ.get('LOCAL_RANK', 0))
        if rank == 0:
            print(f'{line_start}error: {message}\n(MOCOX_DEBUG=1 shows the traceback)', file=sys.stderr, flush=True)
        else:
            print(f'{line_start}error: (rank {rank}) {message.splitlines()[0]}', file=sys.stderr, flush=True)
        dist.finish(failure=message[:300])
        sys.exit(1)


def _end_workers() -> None:
    """Ends the loader's workers: one that was killed may hold a lock for which the others wait, deaf to SIGTERM."""
    if hasattr(signal, 'SIGCHLD'):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would raise an error for each
    for process in multiprocessing.active_children():
        process.kill()


def options_action() -> type[argparse.Action]:
    """What reads ``KEY=VALUE`` arguments into a dictionary."""
    from mmengine.config import DictAction

    class OptionsAction(DictAction):
        """MMEngine's, whose parser trips over some text instead of refusing it."""

        def __call__(
            self, parser: argparse.ArgumentParser, namespace: object, values: list, option_string: str | None = None
        ) -> None:
            try:
                super().__call__(parser, namespace, values, option_string)
            except (AssertionError, RecursionError, ValueError, IndexError):
                parser.error(
                    f'{option_string}: cannot read {values}: write KEY=VALUE, with brackets and quotes in pairs'
                )

    return OptionsAction


def make_parser(description: str, add_help: bool = True) -> argparse.ArgumentParser:
    """A parser with what training and testing have in common; without help it can be the parent of another."""
    parser = argparse.ArgumentParser(description=description, add_help=add_help)
    parser.add_argument('config', help='a config file, or mocox::FOLDER/NAME.py for one that came with the package')
    parser.add_argument('--work-dir', help='where logs and checkpoints go (default: work_dirs/CONFIG_NAME)')
    parser.add_argument('--data-root', help='the folder with the images, instead of the one in the config')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=options_action(),
        metavar='KEY=VALUE',
        help='change the config: train_dataloader.batch_size=64 optim_wrapper.optimizer.lr=1e-4',
    )
    parser.add_argument('--launcher', choices=dist.LAUNCHERS, default='none', help='who started the processes')
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what only training has."""
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CKPT',
        help='continue from this checkpoint; without one, or with "auto", from the newest good one in the work dir',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision: bfloat16, or float16 on GPUs without it')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate by batch size / base_batch_size'
    )
    parser.add_argument('--pretrained', metavar='CKPT', help='initialise the backbone from this checkpoint')


def prepare_config(path: str, args: argparse.Namespace) -> 'Config':
    """Reads a config and applies the command line to it; options that ``args`` lacks are left alone.

    Args:
        path: A file, or ``mocox::FOLDER/NAME.py``.

    Raises:
        FileNotFoundError: The config, ``--data-root``, ``--resume`` or ``--pretrained`` does not exist.
        ValueError: A file that is no config, or an option that does not fit it.
    """
    from mmengine.config import Config
    from mmengine.hub import get_config

    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if '::' in path:
        config = get_config(path)
    elif not Path(path).is_file():
        raise FileNotFoundError(f'there is no config file {path}')
    elif Path(path).suffix not in ('.py', '.json', '.yaml', '.yml'):
        raise ValueError(f'{path} is no config (.py, .json, .yaml, .yml), such as configs/mocov3/vit-small.py')
    else:
        config = Config.fromfile(path)
    if args.cfg_options:
        check_options(config, args.cfg_options)
        config.merge_from_dict(args.cfg_options)
    config.launcher = args.launcher
    config.work_dir = args.work_dir or config.get('work_dir') or str(Path('work_dirs', Path(path).stem))
    if args.data_root:
        _set_data_root(config, args.data_root)
    if getattr(args, 'pretrained', None):
        require_file(args.pretrained, '--pretrained')
        _set_pretrained(config, args.pretrained)
    if getattr(args, 'amp', False):
        _use_mixed_precision(config)
    if getattr(args, 'auto_scale_lr', False):
        if 'base_batch_size' not in config.get('auto_scale_lr', {}):
            raise ValueError(
                '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config: the batch '
                'size that its learning rate is for'
            )
        config.auto_scale_lr.enable = True
    if getattr(args, 'resume', None):
        _set_resume(config, args.resume)
    return config


def build_runner(config: 'Config') -> 'Runner':
    """Joins the processes of the run and builds its ``Runner``.

    Raises:
        ValueError: The config cannot be run.
    """
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    dist.start(config.launcher, config.get('env_cfg', {}).get('dist_cfg', {}).get('timeout', 600))
    find_resume(config)
    check_run(config)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if config.get(name):
            _complete_loader(config[name], config.get('randomness', {}).get('seed'))
    if config.get('train_dataloader'):
        place_augmentation(config)
    runner = RUNNERS.build(config) if 'runner_type' in config else Runner.from_cfg(config)
    if config.get('train_dataloader'):
        _require_momentum_update(runner)
    return runner


def _require_momentum_update(runner: 'Runner') -> None:
    """Without its hook the momentum encoder would keep its first weights, and the loss would not show it."""
    from mocox.engine import MomentumUpdateHook
    from mocox.models.algorithms.base import MomentumContrast

    model = dist.unwrap(getattr(runner, 'model', None))
    if isinstance(model, MomentumContrast) and not any(isinstance(hook, MomentumUpdateHook) for hook in runner.hooks):
        raise ValueError(
            'custom_hooks has no MomentumUpdateHook, so nothing would move the momentum encoder. A list in a config '
            "replaces the inherited one: add dict(type='MomentumUpdateHook') to yours"
        )


def _complete_loader(loader: dict, seed: int | None) -> None:
    """Gives the run's seed to our data sets (MMEngine gives it to samplers only); drops what torch would refuse."""
    import torch

    from mocox.datasets import ViewsDataset
    from mocox.registry import DATASETS

    if not torch.cuda.is_available():
        loader.pop('pin_memory', None)  # torch would warn
    if loader.get('num_workers') == 0:
        loader.pop('persistent_workers', None)
        loader.pop('prefetch_factor', None)
    dataset = loader['dataset']
    kind = DATASETS.get(dataset['type']) if isinstance(dataset, dict) and 'type' in dataset else None
    if inspect.isclass(kind) and issubclass(kind, ViewsDataset) and seed is not None:
        dataset.setdefault('seed', seed)


def place_augmentation(config: 'Config') -> None:
    """Decides where the photometric augmentation of the training images runs; see ``photometric`` of the preprocessor.

    Workers that are to do it get the preprocessor's ``views`` through their ``collate_fn``. A loader with another
    ``collate_fn`` is left alone; then, as without this function, the preprocessor augments.
    """
    from mmengine.device import get_device

    from mocox.models.data_preprocessor import augments_in_workers

    loader = config['train_dataloader']
    collate = loader.get('collate_fn')
    if not isinstance(collate, dict) or str(collate.get('type')).rpartition('.')[2] != 'collate_views':
        return
    collate.pop('views', None)  # of a config that another machine completed
    preprocessor = config.get('model', {}).get('data_preprocessor') or config.get('data_preprocessor') or {}
    if augments_in_workers(preprocessor, get_device(), loader.get('num_workers', 0)):
        collate['views'] = preprocessor['views']


def require_test_data(config: 'Config', path: str) -> None:
    """Refuses a config without test data, such as one for pre-training, before anything is built."""
    if config.get('test_dataloader') is None:
        raise ValueError(
            f'{path} has no test_dataloader: it is a recipe for training. Test with the config of the linear '
            'evaluation, such as configs/mocov3/vit-small_linear.py'
        )


def load_for_test(runner: 'Runner', path: str) -> None:
    """Loads a checkpoint into the runner's model, all of it.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The checkpoint and the model do not hold the same tensors, or it has learned other classes.
    """
    require_file(path, 'CHECKPOINT')
    try:
        checkpoint = runner.load_checkpoint(path, strict=True)
    except RuntimeError as error:
        if 'do not match exactly' not in str(error):
            raise ValueError(f'{path} is not a checkpoint: {str(error).splitlines()[0]}') from error
        lines = [line if len(line) < 300 else f'{line[:300]}...' for line in str(error).splitlines() if line.strip()]
        raise ValueError('\n  '.join([f'{path} does not fit the model of this config:', *lines[:6]])) from error
    _compare_classes(checkpoint, runner.test_dataloader.dataset, path)


def _compare_classes(checkpoint: dict, dataset: object, path: str) -> None:
    """A label is a position among the sorted class folders: with other folders it means another class."""
    from mocox.datasets import ViewsDataset

    learned = (checkpoint.get('meta') or {}).get('dataset_meta', {}).get('classes')
    tested = dataset.metainfo.get('classes') if isinstance(dataset, ViewsDataset) else None
    if not learned or not tested or list(learned) == list(tested):
        return
    differing = sorted({*learned} ^ {*tested})[:5] or 'another order'
    raise ValueError(
        f'{path} has learned {len(learned)} classes and the test images have {len(tested)}, which are not the same '
        f'({differing}): give the test the same class folders as the training'
    )


def _set_pretrained(config: 'Config', path: str) -> None:
    config.model.backbone.init_cfg = dict(type='mocox.Pretrained', checkpoint=path)
    shared_head = config.model.get('roi_head', {}).get('shared_head')
    if shared_head:  # a C4 detector of mmdetection: the last stage of its ResNet works on regions
        part = f'layer{shared_head.stage + 1}.'
        shared_head.init_cfg = dict(type='mocox.Pretrained', checkpoint=path, part=part)


def _set_data_root(config: 'Config', data_root: str) -> None:
    if '://' not in data_root and not Path(data_root).is_dir():  # shards may lie in an object store
        raise FileNotFoundError(f'--data-root: there is no folder {data_root}')
    holders = list(_dicts_with(config._cfg_dict, 'data_root'))
    if not holders:
        raise ValueError('--data-root: no dataset of this config has a data_root')
    evaluators = [config.get(name) for name in ('val_evaluator', 'test_evaluator')]
    for evaluator in _dicts_with(evaluators, 'ann_file'):  # mmdetection's: a path of its own
        for old in {holder['data_root'] for holder in holders}:
            if evaluator['ann_file'].startswith(old):
                evaluator['ann_file'] = str(Path(data_root, evaluator['ann_file'].removeprefix(old).lstrip('/')))
                break
    for holder in holders:
        holder['data_root'] = data_root


def _dicts_with(node: object, key: str) -> Iterator[dict]:
    if isinstance(node, dict):
        if key in node:
            yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from _dicts_with(item, key)


def _use_mixed_precision(config: 'Config') -> None:
    import torch

    kind = config.optim_wrapper.get('type', 'OptimWrapper')
    if kind.rpartition('.')[2] not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ValueError(f'--amp replaces an OptimWrapper, but the config has optim_wrapper.type={kind!r}')
    lacks_bfloat16 = torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False)
    config.optim_wrapper.update(type='mocox.AmpOptimWrapper', dtype='float16' if lacks_bfloat16 else 'bfloat16')


def _set_resume(config: 'Config', resume: str) -> None:
    if resume != 'auto':
        require_file(resume, '--resume')
        config.load_from = resume
    config.resume = True if resume != 'auto' else 'auto'


def find_resume(config: 'Config') -> None:
    """Puts the checkpoint to continue from into the config: the same for all processes, and one that is whole.

    In a process that torchrun has started in place of a failed one it is the newest of the work dir, whatever the
    command line says: that was for the first start.

    Raises:
        ValueError: The checkpoint named by ``--resume`` is damaged.
    """
    from mocox.checkpoint.durable import verify
    from mocox.engine.checkpoint_hook import newest_for_all
    from mocox.engine.preemption_hook import was_restarted

    asked, named = config.get('resume'), config.get('load_from')
    if asked is True and not named:
        asked = 'auto'  # as MMEngine understands it
    if asked == 'auto' or was_restarted():
        found = newest_for_all(config.work_dir, lambda level, text: print(f'--resume: {text}', flush=True))
        if found:
            config.resume, config.load_from = True, found
            return
        config.resume = asked is True
        if dist.rank() == 0:
            where = f'{config.work_dir} holds no checkpoint yet'
            print(f'--resume: {where}, so training starts from the beginning', flush=True)
    elif asked and named and Path(named).is_file():
        verify(named)
