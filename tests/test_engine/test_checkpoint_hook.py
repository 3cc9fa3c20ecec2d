"""Which files a training leaves, also where they cannot be written."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from lab.fault_injection import CASES, build_config, write_images
from mocox.checkpoint import durable
from mocox.engine import CheckpointHook
from mocox.engine.disk_space import number_kept
from mocox.engine.snapshot import HostCopy
from mocox.run.build import build_runner
from tests.support.processes import forget_runner

_, RESNET, _ = CASES.values()


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    write_images(folder)
    return folder


def train(images: Path, work_dir: Path, *hooks: Hook, **checkpoint) -> None:
    """As ``tools/train.py --resume auto`` does."""
    runner = build_runner(build_config(RESNET, images, work_dir, **{'train_cfg.max_epochs': 2}))
    # Put in afterwards: save_best is refused without a validation, whose scores come from a hook of the test.
    runner._hooks = [hook for hook in runner.hooks if not isinstance(hook, CheckpointHook)]
    for hook in (CheckpointHook(**checkpoint), *hooks):
        runner.register_hook(hook)
    try:
        runner.train()
    finally:
        forget_runner()


def names(work_dir: Path) -> set[str]:
    return {path.name for path in work_dir.glob('*.pth*')}


def test_between_epochs(images, tmp_path):
    """The files between two epochs give way to whatever comes next."""

    class Present(Hook):
        priority = 'LOWEST'

        def __init__(self):
            self.files = []

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            hook = next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
            hook.writer.wait()
            self.files.append(names(tmp_path))

    present = Present()
    train(images, tmp_path, present, interval=1, iter_interval=3)
    assert present.files[2] == {'iter_3.pth'} and present.files[5] == {'iter_6.pth'}
    assert present.files[7] == {'epoch_1.pth'}
    assert present.files[8] == {'epoch_1.pth', 'iter_9.pth'}
    assert names(tmp_path) == {'epoch_1.pth', 'epoch_2.pth'}


def test_the_number_of_files_is_kept_through_a_resume(images, tmp_path):
    class Stop(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter == 9:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(images, tmp_path, Stop(), by_epoch=False, interval=2, max_keep_ckpts=2, asynchronous=False)
    assert names(tmp_path) == {'iter_8.pth', 'iter_10.pth'}
    (tmp_path / 'iter_10.pth.xyz.tmp').touch()  # of a process that was killed
    train(images, tmp_path, by_epoch=False, interval=2, max_keep_ckpts=2)
    assert names(tmp_path) == {'iter_12.pth', 'iter_14.pth'}


def test_other_hooks_state_is_saved_and_given_back(images, tmp_path):
    class Counts(Hook):
        def __init__(self):
            self.total = torch.zeros(1)

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            self.total += 1  # in place: what was saved must not change with it

        def before_save_checkpoint(self, runner, checkpoint):
            checkpoint['counts'] = dict(total=self.total)

        def after_load_checkpoint(self, runner, checkpoint):
            self.total = checkpoint['counts']['total']

    train(images, tmp_path, Counts(), by_epoch=False, interval=5)
    read = {name: torch.load(tmp_path / name, weights_only=True)['counts']['total'] for name in names(tmp_path)}
    assert read == {'iter_5.pth': 5, 'iter_10.pth': 10, 'iter_14.pth': 14}
    for name in ('iter_10.pth', 'iter_14.pth'):
        (tmp_path / name).unlink()
    resumed = Counts()
    train(images, tmp_path, resumed, by_epoch=False, interval=5)
    assert resumed.total == 14


class Scores(Hook):
    """Validation scores, as an evaluator would give them."""

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)

    def after_train_epoch(self, runner):
        runner.train_loop._epoch += 1  # validation comes after the epoch is counted
        hook = next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
        hook.after_val_epoch(runner, metrics={'accuracy': self.scores.pop(0)})
        runner.train_loop._epoch -= 1


def test_the_best_one_stays_until_the_better_one_is_whole(images, tmp_path, monkeypatch):
    present, verify = [], durable.verify

    def look(path):
        present.append(names(tmp_path) - {Path(path).name})
        verify(path)

    monkeypatch.setattr(durable, 'verify', look)
    train(images, tmp_path, Scores(0.5, 0.6), interval=-1, save_last=False, save_best='accuracy')
    assert present[-1] == {'best_accuracy_epoch_1.pth'}
    assert names(tmp_path) == {'best_accuracy_epoch_2.pth'}
    best = torch.load(tmp_path / 'best_accuracy_epoch_2.pth', weights_only=True)
    assert 'optimizer' not in best and best['meta']['epoch'] == 2


def test_a_foreign_checkpoint_removes_nothing(images, tmp_path):
    """Names in its message hub lead out of the folder, to a folder, and to files of others."""
    run = tmp_path / 'run'
    train(images, run, interval=1)
    outside, folder, mine = tmp_path / 'iter_7.pth', tmp_path / 'epoch_9.pth', run / 'mine.pth'
    outside.touch(), mine.touch(), folder.mkdir(), (folder / 'x').touch()
    (run / 'best_accuracy_epoch_8.pth').mkdir()
    for info in (
        dict(kept_checkpoints=[str(outside), '../iter_7.pth', 'mine.pth', 3], between_checkpoint=str(mine)),
        dict(kept_checkpoints=5, between_checkpoint='../iter_7.pth', keep_ckpt_ids=['../../iter_7', 1, 2.5]),
        dict(kept_checkpoints=None, between_checkpoint=None, keep_ckpt_ids='..', best_ckpt=str(folder), best_score=0.0),
        dict(best_ckpt=str(mine), best_score=0.0),
        dict(best_ckpt='elsewhere/best_accuracy_epoch_8.pth', best_score=0.0),
    ):
        evil = torch.load(run / 'epoch_1.pth', weights_only=True)
        evil['message_hub']['runtime_info'] |= info
        evil['meta']['config'] = f'open({str(tmp_path / "witness")!r}, "w")'  # MMEngine would run it
        torch.save(evil, run / 'epoch_1.pth')
        (run / 'epoch_2.pth').unlink(missing_ok=True)
        train(images, run, Scores(0.6), interval=1, max_keep_ckpts=1, save_best='accuracy')
        assert not (tmp_path / 'witness').exists()
        assert outside.is_file() and (folder / 'x').is_file() and mine.is_file()
        assert (run / 'best_accuracy_epoch_8.pth').is_dir()
        torch.save(evil, run / 'epoch_1.pth')


def test_the_last_one_is_tried_twice_and_then_an_error(images, tmp_path, monkeypatch, capfd):
    """What could be written before stays."""
    write = durable.write_atomically

    def full(path, *args, **kwargs):
        if Path(path).name == 'epoch_2.pth':
            raise OSError(28, 'No space left on device')
        write(path, *args, **kwargs)

    monkeypatch.setattr(durable, 'write_atomically', full)
    with pytest.raises(OSError, match=r'training is done, but .*epoch_2.pth could not be written'):
        train(images, tmp_path, interval=1)
    assert names(tmp_path) == {'epoch_1.pth'}
    said = capfd.readouterr()
    assert (said.out + said.err).count('No space left on device') == 2
    assert f'The last good checkpoint is {tmp_path / "epoch_1.pth"}' in said.out + said.err


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / 'small'
    folder.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=30m', 'tmpfs', folder], capture_output=True).returncode:
        pytest.skip('mounting is not permitted')
    yield folder
    subprocess.run(['umount', '-l', folder])


def test_training_goes_on_while_the_disk_is_full(images, small_disk, capfd):
    """Checkpoints and log lines are missing in between, and nothing else."""

    class Fill(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            filler = small_disk / 'filler'
            if runner.iter == 3:
                with open(filler, 'wb', buffering=0) as file:
                    try:
                        while True:
                            file.write(bytes(4096))
                    except OSError:
                        pass
            if runner.iter == 10:
                filler.unlink()

    work_dir = small_disk / 'work'
    train(images, work_dir, Fill(), by_epoch=False, interval=3, max_keep_ckpts=2)
    assert names(work_dir) == {'iter_12.pth', 'iter_14.pth'}
    said = capfd.readouterr()
    said = said.out + said.err
    assert re.search(r'iter_6.pth could not be written: .*\n*.*MB are free there', said)
    assert 'last good checkpoint is' in said and 'iter_3.pth' in said
    lines = next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()
    assert all(json.loads(line) for line in lines[:3])


def test_arguments():
    with pytest.raises(ValueError, match='iter_interval=0'):
        CheckpointHook(iter_interval=0)


def test_a_copy_of_its_own():
    shared = torch.ones(2)
    content = dict(a=shared, b=[shared, (1, 'x')], c=dict(d=shared[:1]))
    copied = HostCopy()(content)
    shared.zero_()
    assert copied['a'].tolist() == [1, 1] and copied['c']['d'].tolist() == [1] and copied['b'][1] == (1, 'x')
    assert copied['b'][0] is copied['a']
    state = torch.nn.BatchNorm1d(2).state_dict()
    assert HostCopy()(state)._metadata == state._metadata


def test_the_memory_of_a_copy_is_used_again_where_it_fits():
    copier = HostCopy()
    first = copier([torch.ones(4), torch.ones(2, 3).T, torch.ones(3)])
    second = copier([torch.zeros(4), torch.zeros(2, 3).T, torch.zeros(5)])
    reused = [one.data_ptr() == other.data_ptr() for one, other in zip(first, second)]
    assert reused == [True, True, False]
    assert all(not copied.any() for copied in second) and second[1].stride() == (1, 3)


def test_a_used_work_dir_is_not_written_over(images, tmp_path):
    """Nor is it by a warm start; only files that no run could go on from are no reason to stop."""
    train(images, tmp_path, interval=1)
    before = {path.name: path.read_bytes() for path in tmp_path.glob('*.pth')}
    for options in ({}, dict(load_from=str(tmp_path / 'epoch_1.pth'))):
        config = build_config(RESNET, images, tmp_path, **{'train_cfg.max_epochs': 2})
        config.update(resume=False, **options)
        runner = build_runner(config)
        with pytest.raises(ValueError, match=r'epoch_2\.pth.*choose another --work-dir, or resume .* --resume'):
            runner.train()
        forget_runner()
    assert {path.name: path.read_bytes() for path in tmp_path.glob('*.pth')} == before


@pytest.mark.parametrize(
    ('max_keep', 'interval', 'total', 'kept'),
    [(-1, 1, 300, 300), (3, 10, 300, 3), (3, 200, 300, 2), (-1, -1, 9, 1), (5, 7, 20, 3)],
)
def test_how_many_stay(max_keep, interval, total, kept):
    assert number_kept(max_keep, interval, total) == kept


@pytest.mark.parametrize(('factor', 'refused', 'warned'), [(0.9, True, False), (2.5, False, True), (3.5, False, False)])
def test_space_is_looked_for_before_the_first_step(images, tmp_path, monkeypatch, capfd, factor, refused, warned):
    """Two are kept, so three lie there for a moment; the estimate is the size of a real file, to a tenth."""
    train(images, tmp_path / 'first', interval=1)
    size = (tmp_path / 'first' / 'epoch_1.pth').stat().st_size
    capfd.readouterr()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr('shutil.disk_usage', lambda path: usage._replace(free=int(factor * size)))
    work_dir = tmp_path / 'second'
    if refused:
        with pytest.raises(
            ValueError, match=r'takes about .* GB are free in .*second: no checkpoint of this run would'
        ):
            train(images, work_dir, interval=1, max_keep_ckpts=2)
    else:
        train(images, work_dir, interval=1, max_keep_ckpts=2)
    assert ('the 2 that are kept, and the next one, do not fit' in ''.join(capfd.readouterr())) == warned
    assert bool(names(work_dir)) != refused
