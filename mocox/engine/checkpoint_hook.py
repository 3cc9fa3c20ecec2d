"""Checkpoints of a training: when to write, which to keep, and how to resume from them."""

import re
from functools import partial
from pathlib import Path
from typing import Any

from mmengine import hooks
from mmengine.fileio import LocalBackend
from mmengine.runner import Runner

from mocox import dist
from mocox.checkpoint.durable import NOTE, CheckpointWriter, remove_leftovers
from mocox.engine.batches import accumulative_counts, describe_batches
from mocox.engine.disk_space import check_space, number_kept
from mocox.engine.resume import changes, newest_for_all, refuse_other_batches, refuse_used_folder
from mocox.engine.run_end import at_end, lock_work_dir, unlock_work_dir
from mocox.engine.snapshot import HostCopy, take_snapshot
from mocox.models import FullyShard
from mocox.processes import group
from mocox.registry import HOOKS

KEPT_KEY, BETWEEN_KEY = 'kept_checkpoints', 'between_checkpoint'  # in the message hub: names of files


@HOOKS.register_module()
class CheckpointHook(hooks.CheckpointHook):
    """MMEngine's hook of this name, with atomic writes and everything that an exact resume needs.

    A checkpoint is copied in memory, which the training waits for, and written in a thread, which it does not: to a
    temporary file, onto the disk, read back and compared with its checksums, renamed. Only then are the files removed
    that it replaces. If it cannot be written, the log says what to do, the training goes on, and the next one is tried;
    only a failure of the last one ends in an error. Under gradient accumulation it is made at the end of the optimizer
    step, some iterations late if need be.

    Args:
        interval: See ``mmengine.hooks.CheckpointHook``, as for all others.
        iter_interval: With ``by_epoch=True``: also save every so many iterations; of these files (``iter_N.pth``) the
            next one of any kind takes the place. None saves at the ends of epochs only.
        asynchronous: False writes while the training waits.

    Raises:
        TypeError: An argument that neither hook has.
        ValueError: ``iter_interval`` below 1.
    """

    best_ckpt_path: str | None
    file_backend: Any

    def __init__(self, *args, iter_interval: int | None = None, asynchronous: bool = True, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.args:  # MMEngine's hook keeps what it does not know
            raise TypeError(f'CheckpointHook.__init__() got an unexpected keyword argument {next(iter(self.args))!r}')
        if iter_interval is not None and iter_interval < 1:
            raise ValueError(f'iter_interval={iter_interval}: must be at least 1, or None')
        self.iter_interval, self.asynchronous = iter_interval, asynchronous
        self.delayed: int | None = None  # number of a checkpoint that waits for the optimizer's step
        self.between_is_due = self.is_durable = False
        self.last_saved = -1  # iteration of the last snapshot

    def before_run(self, runner: Runner) -> None:
        """Take the work dir, and find the checkpoint for a bare ``resume=True``, which MMEngine would load unchecked.

        Raises:
            ValueError: Another process trains there, or an earlier run has left checkpoints that this one does not
                continue.
        """
        loop = runner._train_loop
        begins = not isinstance(loop, dict | None) and not loop.iter  # not for a test, nor for one after a training
        if begins and dist.rank() == 0:
            lock_work_dir(runner.work_dir)
            at_end(runner, partial(self._give_back, runner.work_dir))
        if runner._resume and runner._load_from is None:
            runner._load_from = newest_for_all(runner.work_dir, runner.logger.log)
        if begins and not runner._resume:
            refuse_used_folder(runner.work_dir)

    def _give_back(self, work_dir: str) -> None:
        if self.is_durable:
            self.writer.wait()
        unlock_work_dir(work_dir)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Move the loop to the position of the checkpoint, or refuse to resume with other batches."""
        checkpoint.get('meta', {}).pop('config', None)  # old MMEngine's: its FlexibleRunner would run it
        if not runner._resume or runner._train_loop is None or isinstance(runner._train_loop, dict):
            return
        exact, meta = checkpoint.get('exact_resume'), checkpoint['meta']
        length = len(runner.train_dataloader)
        if exact:
            refuse_other_batches(exact, describe_batches(runner))
            for change in changes(checkpoint, runner):
                runner.logger.warning(change)
        done = meta['iter'] - meta['epoch'] * length
        if not hasattr(runner.train_loop, 'generators'):
            if exact and getattr(runner.train_loop, '_max_epochs', 1) > 1 and done:
                raise ValueError(
                    f'the checkpoint was made {done} iterations into an epoch, where only '
                    "train_cfg=dict(type='mocox.EpochBasedTrainLoop', max_epochs=...) can go on"
                )
            return
        runner.train_loop.start = done if 0 < done <= length else 0
        if exact and exact['processes'] == dist.world_size():
            runner.train_loop.generators = exact['generators'][dist.rank()]
        if meta['iter'] >= runner.max_iters:
            runner.logger.info(
                f'Nothing is left to do: {meta["epoch"]} of {runner.max_epochs} epochs are done. For more of them: '
                '--cfg-options train_cfg.max_epochs=...'
            )
            return
        runner.logger.info(
            f'Resuming at iteration {meta["iter"]}, after {runner.train_loop.start} of {length} batches of epoch '
            f'{meta["epoch"] + 1}.'
        )

    def before_train(self, runner: Runner) -> None:
        """Take over the writing, also of other hooks' checkpoints."""
        known = runner.message_hub.runtime_info  # may come from a checkpoint of a stranger
        if 'keep_ckpt_ids' in known:
            known['keep_ckpt_ids'] = [number for number in _listed(known['keep_ckpt_ids']) if type(number) is int]
        super().before_train(runner)
        if hasattr(self, 'best_ckpt_path'):  # of one score; with several it is a dict
            self.best_ckpt_path = self._own_file(self.best_ckpt_path)
        for key, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[key] = self._own_file(path)
        self.is_durable = isinstance(self.file_backend, LocalBackend) and isinstance(runner, Runner)
        if not self.is_durable:
            runner.logger.warning(f'{self.out_dir}: checkpoints are written by MMEngine, in place and unchecked.')
            return
        self.folder = Path(self.out_dir)
        self.writer, self.copier = CheckpointWriter(runner.logger.log), HostCopy()
        self.file_backend = _RemovesLater(self.file_backend, self.writer)
        runner.save_checkpoint = partial(self._save_for_others, runner)
        if dist.rank() == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.folder)
            self._take_over_files(runner)
            total = runner.max_epochs if self.by_epoch else runner.max_iters
            if runner.iter < runner.max_iters:
                check_space(runner, self.folder, number_kept(self.max_keep_ckpts, self.interval, total))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Save a checkpoint that is due, once the optimizer has made its step."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        if not self.is_durable:
            return
        done = runner.iter + 1
        if self.by_epoch and self.iter_interval and done % self.iter_interval == 0:
            self.between_is_due = True
        if not _is_step_done(runner, done):
            return
        if self.delayed is not None:
            number = self.delayed if self.by_epoch else done
            self._save(runner, self.filename_tmpl.format(number), runner.epoch, done)
        elif self.between_is_due:
            self._save(runner, f'iter_{done}.pth', runner.epoch, done, between=True)

    def after_train(self, runner: Runner) -> None:
        """Wait for the last checkpoint, and retry once if it could not be written.

        Raises:
            OSError: It cannot be written at all.
        """
        if self.is_durable and self._has_failed():
            self._save(runner, self.last_name, runner.epoch, runner.iter)
            if self._has_failed():
                raise OSError(
                    f'training is done, but {self.folder / self.last_name} could not be written; the error above says '
                    'why. Remove the cause, then resume from the last good checkpoint with --resume'
                )
        super().after_train(runner)

    def save_now(self, runner: Runner) -> bool:
        """Save at the end of this iteration, which completes an optimizer step, and wait for the file.

        Returns:
            Whether the file is whole, on the first process; True on the others.
        """
        if not self.is_durable:
            runner.save_checkpoint(self.out_dir, f'iter_{runner.iter + 1}.pth', by_epoch=False)
            return True
        done = runner.iter + 1
        if self.last_saved != done:
            name = f'iter_{done}.pth' if self.by_epoch else self.filename_tmpl.format(done)
            self._save(runner, name, runner.epoch, done, between=self.by_epoch)
        return self.writer.wait()

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, int]) -> None:
        """Write the checkpoint that MMEngine's hook has found to be due."""
        if not self.is_durable:
            super()._save_checkpoint_with_step(runner, step, meta)
        elif _is_step_done(runner, meta['iter']):
            self._save(runner, self.filename_tmpl.format(step), meta['epoch'], meta['iter'])
        else:
            self.delayed = step

    def _save(self, runner: Runner, name: str, epoch: int, done: int, between: bool = False) -> None:
        self.delayed, self.between_is_due, self.last_saved = None, False, done
        if not between:
            self.last_name, self.last_ckpt = name, str(self.folder / name)
            runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.call_hook('before_snapshot')  # on all processes, unlike before_save_checkpoint
        self.writer.wait()  # what it keeps is known after that
        names = [path.name for path in self.writer.kept]
        runner.message_hub.update_info(KEPT_KEY, names if between else [*(n for n in names if n != name), name])
        runner.message_hub.update_info(BETWEEN_KEY, name if between else str(getattr(self.writer.between, 'name', '')))
        content = take_snapshot(
            runner,
            dict(epoch=epoch, iter=done),
            self.save_optimizer,
            self.save_param_scheduler,
            copier=self.copier,
        )
        if content is None:
            return
        note = Path(runner.work_dir, NOTE)
        self.writer.save(content, self.folder / name, note, self.max_keep_ckpts, between)
        if not self.asynchronous:
            self.writer.wait()

    def _save_for_others(
        self,
        runner: Runner,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Replace ``Runner.save_checkpoint``, with its arguments; returns when the file has been written."""
        runner.call_hook('before_snapshot')
        if dist.rank() != 0 and not isinstance(runner.model, FullyShard):
            return  # the others may not have been asked; weights that are spread over all processes need them
        position = dict(epoch=runner.epoch + by_epoch, iter=runner.iter + (not by_epoch))
        content = take_snapshot(runner, position | (meta or {}), save_optimizer, save_param_scheduler, exact=False)
        if content is not None:
            self.writer.save(content, Path(out_dir, filename), note=None)
            self.writer.wait()

    def _has_failed(self) -> bool:
        """True if the last checkpoint is incomplete; the same answer on all processes."""
        failed = not self.writer.wait()
        group.meet()  # a file may take longer to write than a collective waits
        return bool(dist.maxima([failed])[0])

    def _take_over_files(self, runner: Runner) -> None:
        """Count the checkpoints that the run kept before it was resumed."""
        known = runner.message_hub.runtime_info
        names = _listed(known.get(KEPT_KEY)) or [
            self.filename_tmpl.format(number) for number in known.get('keep_ckpt_ids', [])
        ]
        self.writer.kept = [Path(path) for name in names if (path := self._own_file(name)) and Path(path).is_file()]
        between = self._own_file(known.get(BETWEEN_KEY))
        self.writer.between = Path(between) if between and Path(between).is_file() else None

    def _own_file(self, named: Any) -> str | None:
        """The checkpoint of this name in this run's folder, if it is one that this hook would write.

        The folder in the name is ignored: the run may have been moved since, and the name may come from a stranger's
        checkpoint. So nothing but this hook's own files is ever removed.
        """
        name = Path(named).name if isinstance(named, str) else ''
        numbered = re.escape(self.filename_tmpl).replace(r'\{\}', r'\d+')
        own = rf'(best_[^/\\]*_)?{numbered}|iter_\d+\.pth'
        return str(Path(self.out_dir, name)) if re.fullmatch(own, name) else None


class _RemovesLater:
    """A file backend that removes a file once its successor has been written."""

    def __init__(self, backend: LocalBackend, writer: CheckpointWriter) -> None:
        self.backend = backend
        self.writer = writer

    def isdir(self, path: str) -> bool:
        return False  # a checkpoint is a file here: MMEngine would remove a whole folder

    def rmtree(self, path: str) -> None:
        raise ValueError(f'{path}: a checkpoint is a file, so no folder is removed')

    def remove(self, path: str) -> None:
        self.writer.wait()
        self.writer.obsolete.append(Path(path))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)


def _listed(value: Any) -> list:
    return list(value) if isinstance(value, list | tuple) else []


def _is_step_done(runner: Runner, done: int) -> bool:
    """True if no gradient waits for the optimizer after ``done`` iterations."""
    return done % accumulative_counts(runner.optim_wrapper) == 0 or done >= runner.max_iters
