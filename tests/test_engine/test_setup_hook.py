"""MMEngine's Runner makes the run that the tools make; where augmentation happens, and whose seed is used."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from mocox.augment.recipe import View
from mocox.datasets import ImageFiles, collate_views
from mocox.engine.setup_hook import place_augmentation
from mocox.models import ViewsPreprocessor
from tests.support.processes import forget_runner
from tests.support.tiny_run import run_tool, write_run
from tests.test_monitors.tiny import run_config

CROPS = dict(type='RandomResizedCrops', size=8)


@pytest.mark.parametrize(('seed', 'num_workers'), [(0, 0), (1, 0), (1, 1)])
def test_a_bare_runner_gives_the_run_of_the_tools(tmp_path, seed, num_workers):
    """Weights, optimizer and keys after an epoch, bit for bit; with a worker, that is where images are augmented."""
    path = write_run(tmp_path)
    options = {'randomness.seed': seed, 'train_cfg.max_epochs': 1, 'train_dataloader.num_workers': num_workers}
    settings = [f'{key}={value}' for key, value in options.items()]
    run_tool('train.py', path, '--work-dir', tmp_path / 'tool', '--cfg-options', *settings)
    forget_runner()
    config = Config.fromfile(path)
    config.merge_from_dict(dict(options, work_dir=str(tmp_path / 'runner')))
    runner = Runner.from_cfg(config)
    runner.train()
    forget_runner()
    assert runner.train_dataloader.dataset.seed == seed
    assert ('views' in runner.train_dataloader.collate_fn.keywords) == (num_workers > 0)
    ours, theirs = (torch.load(tmp_path / name / 'epoch_1.pth', weights_only=True) for name in ('tool', 'runner'))
    assert_equal(ours['state_dict'], theirs['state_dict'])
    assert_equal(ours['optimizer']['state'], theirs['optimizer']['state'])


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, dict):
            assert_equal(value, other[name])
        else:
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(other[name])), name


def test_a_bare_runner_refuses_keys_that_nothing_moves(tmp_path):
    config = Config.fromfile(write_run(tmp_path))
    config.merge_from_dict(dict(custom_hooks=[], work_dir=str(tmp_path / 'runner')))
    with pytest.raises(ValueError, match='custom_hooks has no MomentumUpdateHook.*replaces'):
        Runner.from_cfg(config).train()


def test_the_seed_of_the_run_is_that_of_our_data_sets(tmp_path):
    Image.new('RGB', (16, 16)).save(tmp_path / 'a.png')
    dataset = ImageFiles(str(tmp_path), CROPS)
    assert dataset.seed == 0
    dataset.use_seed(7)
    assert dataset.seed == 7
    own = ImageFiles(str(tmp_path), CROPS, seed=3)
    own.use_seed(7)
    assert own.seed == 3  # given, so kept
    zero = ImageFiles(str(tmp_path), CROPS, seed=0)
    zero.use_seed(7)
    assert zero.seed == 0


def placed(
    views=({'flip_prob': 1},), photometric='auto', num_workers=2, device='cpu', collate=collate_views, bits=8
) -> list[View] | None:
    """The recipe that the workers of a training loader get."""
    preprocessor = ViewsPreprocessor([0] * 3, [1] * 3, views, photometric=photometric).to(device)
    dataset = SimpleNamespace(pixels=SimpleNamespace(bits=bits))
    collate = partial(collate, views=['of another machine'])
    loader = SimpleNamespace(collate_fn=collate, num_workers=num_workers, dataset=dataset)
    place_augmentation(loader, preprocessor)
    return loader.collate_fn.keywords.get('views')


def test_workers_augment_where_the_model_is_on_the_cpu():
    flip = [View(flip_prob=1)]
    assert placed() == flip
    assert placed(num_workers=0) is None
    assert placed(photometric='device') is None
    assert placed(views=[{}]) is None  # nothing to do
    assert placed(bits=16) == flip  # of any depth
    assert placed(num_workers=0, photometric='workers') == flip
    assert placed(device='meta') is None  # as on a GPU
    assert placed(device='meta', photometric='workers') == flip
    with pytest.raises(ValueError, match="'auto', 'device' or 'workers', got 'gpu'"):
        placed(photometric='gpu')


def test_another_collate_function_is_left_alone():
    assert placed(collate=np.stack) == ['of another machine']


def test_workers_take_views_that_are_built():
    sample = dict(inputs=[torch.arange(48, dtype=torch.uint8).view(3, 4, 4)], draws=torch.zeros(1, 16), index=0)
    (built,), (named,) = (collate_views([sample], [v])['inputs'] for v in (View(flip_prob=1), dict(flip_prob=1)))
    assert torch.equal(built, named) and torch.equal(built[0], sample['inputs'][0].flip(-1))


@pytest.mark.parametrize('named', [None, 7])
def test_the_order_of_the_images_follows_the_seed_of_the_run(tmp_path, named):
    """One that MMEngine has drawn for ``seed=None``, too; and a continued run has that of its checkpoint."""
    seen = []

    class Look(Hook):
        def before_train_epoch(self, runner):
            seen.append((runner.seed, runner.train_dataloader.sampler.seed))

    for options in (dict(), dict(resume=True, epochs=3)):
        cfg = run_config(tmp_path / 'run', **{'epochs': 1, **options})
        cfg['randomness'] = dict(seed=named)
        cfg['default_hooks']['setup'] = dict(type='SetupHook')
        cfg['default_hooks']['checkpoint'].update(save_last=True, interval=1)
        runner = Runner.from_cfg(Config(cfg))
        runner.register_hook(Look())
        runner.train()
        forget_runner()
    assert len(seen) == 3 and len({number for seeds in seen for number in seeds}) == 1
    assert seen[0][0] == (named or seen[0][0])
