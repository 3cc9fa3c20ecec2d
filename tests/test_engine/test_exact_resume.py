"""A run continued from any of its checkpoints ends in exactly the weights of the uninterrupted one."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from torch.utils.data import DataLoader, IterableDataset

from lab.fault_injection import CASES, Case, build_config, compare, write_images
from mocox.datasets.packed_paths import PackedPaths
from mocox.datasets.samplers import skip_batches
from mocox.engine.batches import describe_images
from mocox.engine.resume import changes, refuse_other_batches
from mocox.run.build import build_runner
from tests.support.processes import forget_runner, run_processes

VIT, RESNET, TWO_PROCESSES = CASES.values()
BATCHED = {'data_preprocessor.photometric': 'device'}  # in workers the augmentation rounds otherwise
WORKERS = {'train_dataloader.num_workers': 2, **BATCHED}
NO_WORKERS = {'train_dataloader.num_workers': 0, 'train_dataloader.persistent_workers': False}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    write_images(folder)
    return folder


def train(case: Case, images: Path, work_dir: Path, start: Path | None = None, **options) -> dict:
    """Runs to the end, from the beginning or from a checkpoint; returns the last one."""
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(len(str(work_dir)))  # another process has other generators
    config = build_config(case, images, work_dir, **options)
    if start:
        config.resume, config.load_from = True, str(start)
    build_runner(config).train()
    forget_runner()
    return read(max(checkpoints(work_dir), key=lambda path: int(path.stem.rpartition('_')[2])))


def every(interval: int) -> dict:
    """A checkpoint every so many iterations, all kept."""
    hook = dict(by_epoch=False, interval=interval, filename_tmpl='iter_{}.pth', max_keep_ckpts=-1)
    return {'default_hooks.checkpoint': hook}


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def checkpoints(work_dir: Path) -> list[Path]:
    return list(work_dir.glob('*_*.pth'))


@pytest.fixture(scope='module')
def straight(images, tmp_path_factory):
    """The work dir of an uninterrupted run of the ResNet with a queue."""
    work_dir = tmp_path_factory.mktemp('run') / 'straight'
    train(RESNET, images, work_dir, **every(2))
    return work_dir


# An epoch has 7 iterations: 10 lies within one, 14 after the last of one but before what ends it.
@pytest.mark.parametrize(('place', 'options'), [(14, {}), (10, WORKERS)], ids=['end of epoch', 'with a new worker'])
def test_with_a_queue(images, straight, tmp_path, place, options):
    resumed = train(RESNET, images, tmp_path, straight / f'iter_{place}.pth', **options, **every(2))
    assert list(compare(resumed, read(straight / 'iter_21.pth'))) == []


def test_with_accumulation_mixed_precision_and_a_lasting_worker(images, tmp_path):
    expected = train(VIT, images, tmp_path / 'straight', **every(5))
    for place in (6, 16):  # the step that iteration 5 and 15 belong to ends there
        start = tmp_path / 'straight' / f'iter_{place}.pth'
        assert list(compare(train(VIT, images, tmp_path / f'from_{place}', start, **every(5)), expected)) == []


def test_from_the_end_of_an_epoch(images, tmp_path):
    """Where gradients of an odd iteration wait for their step, the file is made one iteration later."""
    hook = {'default_hooks.checkpoint': dict(interval=1, max_keep_ckpts=2)}
    straight = train(VIT, images, tmp_path / 'straight', **hook)
    files = {path.name: read(path)['meta'] for path in checkpoints(tmp_path / 'straight')}
    assert {name: (meta['epoch'], meta['iter']) for name, meta in files.items()} == {
        'epoch_2.pth': (2, 14), 'epoch_3.pth': (3, 21)
    }  # fmt: skip
    resumed = train(VIT, images, tmp_path / 'resumed', start=tmp_path / 'straight' / 'epoch_2.pth')
    assert list(compare(resumed, straight)) == []


@pytest.mark.parametrize('case', [VIT, RESNET], ids=['MoCo v3', 'MoCo v2'])
def test_with_positives_of_other_files(images, tmp_path, case):
    """Digits of one ten are a group; within an epoch, and with another number of workers."""
    groups = {'train_dataloader.dataset.positives': dict(pattern=r'(\d)\d\.png', prob=0.5), **BATCHED}
    options = {**groups, **every(4), 'train_cfg.max_epochs': 2, **NO_WORKERS}
    expected = train(case, images, tmp_path / 'straight', **options)
    assert expected['exact_resume']['images']['positives'].startswith('0.5 ')
    worker = {'train_dataloader.num_workers': 1}
    resumed = train(case, images, tmp_path / 'resumed', tmp_path / 'straight' / 'iter_8.pth', **{**options, **worker})
    assert list(compare(resumed, expected)) == []


def _train_in_each_process(images: Path, folder: Path) -> list[str]:
    options = {**every(5), 'train_dataloader.num_workers': 0, 'train_dataloader.persistent_workers': False}
    straight = train(TWO_PROCESSES, images, folder / 'straight', **options)
    resumed = train(TWO_PROCESSES, images, folder / 'resumed', folder / 'straight' / 'iter_10.pth', **options)
    return list(compare(resumed, straight))


@pytest.mark.slow
@pytest.mark.dist
def test_two_processes(images, tmp_path):
    assert run_processes(_train_in_each_process, 2, images, tmp_path) == [[], []]
    states = read(tmp_path / 'straight' / 'iter_10.pth')['exact_resume']['generators']
    assert not torch.equal(states[0]['torch'], states[1]['torch'])  # each has its own
    # One process with the doubled batch has the same images and the same learning rate.
    lone = Case(TWO_PROCESSES.recipe, TWO_PROCESSES.options | {'model.backbone.drop_path_rate': 0.0})
    train(lone, images, tmp_path / 'lone', start=tmp_path / 'straight' / 'iter_10.pth', **every(5))


class Seen(Hook):
    """What the loop tells hooks."""

    def __init__(self) -> None:
        self.events = []

    def before_train_epoch(self, runner):
        self.events.append('begin')

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.events.append(batch_idx)

    def after_train_epoch(self, runner):
        self.events.append('end')


@pytest.mark.parametrize(('place', 'rest'), [(10, range(3, 7)), (14, ())])
def test_hooks_see_the_numbers_of_whole_epochs(images, straight, tmp_path, place, rest):
    config = build_config(RESNET, images, tmp_path, **every(2))
    config.resume, config.load_from = True, str(straight / f'iter_{place}.pth')
    runner, seen = build_runner(config), Seen()
    runner.register_hook(seen)
    runner.train()
    forget_runner()
    assert seen.events == ['begin', *rest, 'end', 'begin', *range(7), 'end']


class Numbers(torch.utils.data.Dataset):
    def __init__(self) -> None:
        self.read = torch.zeros(10, dtype=torch.long)

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> int:
        self.read[index] += 1
        return index


@pytest.mark.parametrize('workers', [0, 2])
def test_skipped_batches_are_not_read(workers):
    loader = DataLoader(Numbers(), batch_size=3, num_workers=workers, persistent_workers=workers > 0)
    loader.dataset.read.share_memory_()
    skip_batches(loader, 2)
    assert len(loader) == 4
    assert [batch.tolist() for batch in loader] == [[6, 7, 8], [9]]
    assert loader.dataset.read.tolist() == [0] * 6 + [1] * 4
    assert len(list(loader)) == 4  # the next epoch is whole


def test_iterable_datasets_say_where_they_begin():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(10))

    with pytest.raises(TypeError, match='Stream cannot begin in the middle of an epoch'):
        skip_batches(DataLoader(Stream(), batch_size=2), 1)
    Stream.skip_images = lambda self, number: setattr(self, 'skipped', number)
    loader = DataLoader(Stream(), batch_size=2)
    skip_batches(loader, 3)
    assert loader.dataset.skipped == 6


SAVED = dict(processes=4, batch_size=64, accumulative_counts=1, epoch_length=100)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(processes=2), '4 processes of 64 images, 256 in all; now there are 2 of 64, 128.*batch_size=128'),
        (dict(processes=3), 'start a number of processes that divides 256'),
        (dict(accumulative_counts=2), 'accumulative_counts=1, which is now 2'),
        (dict(epoch_length=99), 'an epoch had 100 iterations; now it has 99'),
    ],
)
def test_other_batches_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        refuse_other_batches(SAVED, SAVED | change)
    refuse_other_batches(SAVED, SAVED | dict(processes=8, batch_size=32))


def test_other_batches_are_refused_in_a_run(images, straight, tmp_path):
    with pytest.raises(ValueError, match='train_dataloader.batch_size=8'):
        train(RESNET, images, tmp_path, start=straight / 'iter_14.pth', **{'train_dataloader.batch_size': 4})
    forget_runner()


def test_other_images_and_settings_are_told(images, straight, tmp_path, capfd):
    """An epoch has as many batches as before, so that the run can go on: but not as if nothing had changed."""
    more = tmp_path / 'more'
    shutil.copytree(images, more)
    shutil.copy(more / '00.png', more / 'first.png')
    train(RESNET, more, tmp_path / 'run', straight / 'iter_10.pth', **{'optim_wrapper.optimizer.weight_decay': 0.5})
    said = capfd.readouterr()
    assert 'not those of the checkpoint: 56 then, 57 now.' in said.out + said.err
    assert 'weight_decay=0.5 is left at 0.0001' in said.out + said.err
    assert 'lr=' not in said.out + said.err


def test_the_same_images_are_known_by_their_names(images, straight, tmp_path):
    config = build_config(RESNET, images, tmp_path)
    runner = build_runner(config)
    runner.train_loop  # noqa: B018  MMEngine builds it when it is asked for
    saved = read(straight / 'iter_10.pth')['exact_resume']['images']
    assert describe_images(runner) == saved and saved['count'] == 56
    (warning,) = changes(dict(exact_resume=dict(images=saved | dict(positives='0.5 1'))), runner)
    assert 'positives have changed' in warning
    dataset = runner.train_dataloader.dataset
    dataset._paths = PackedPaths([b'renamed', *list(dataset._paths)[1:]])
    del dataset.checksum  # computed once
    (warning,) = changes(dict(exact_resume=dict(images=saved)), runner)
    assert '56 then, 56 now, with other names or in another order' in warning
    forget_runner()


def test_a_loop_that_cannot_go_on_within_an_epoch_refuses(images, straight, tmp_path):
    loop = {'train_cfg.type': 'mmengine.EpochBasedTrainLoop'}
    with pytest.raises(ValueError, match='3 iterations into an epoch.*mocox.EpochBasedTrainLoop'):
        train(RESNET, images, tmp_path, start=straight / 'iter_10.pth', **loop)
    forget_runner()


def test_a_checkpoint_from_before_goes_on(images, straight, tmp_path):
    """Without states of generators, as MMEngine's own hook writes it."""
    content, expected = (read(straight / f'iter_{place}.pth') for place in (14, 21))
    del content['exact_resume']
    torch.save(content, tmp_path / 'old.pth')
    resumed = train(RESNET, images, tmp_path / 'resumed', start=tmp_path / 'old.pth')
    assert all(torch.equal(value, expected['state_dict'][name]) for name, value in resumed['state_dict'].items())
