"""Crash-safe checkpoints: written in the background, verified, and found again."""

import logging
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mocox.checkpoint.bombs import is_regular, refuse_bombs
from mocox.checkpoint.files import open_pickle, write_atomically

NOTE = 'last_checkpoint'  # MMEngine's: a file with the path of the newest checkpoint
Report = Callable[[int, str], None]  # a logging level, and a message


def verify(path: str | Path) -> None:
    """Read a whole checkpoint and verify the checksum of every part.

    The checksums are those of the zip archive that ``torch.save`` writes, a CRC-32 for each tensor and for the
    structure around them. ``torch.load`` does not look at them: it reads a flipped bit as a weight.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Truncated, changed, or no checkpoint at all.
    """
    refuse_bombs(Path(path))
    if not _starts_as_archive(Path(path)):  # torch before 1.6 wrote no checksums: a file that loads counts as whole
        _load(path, mmap=False)
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # a changed header ends in anything from BadZipFile to NotImplementedError
        raise ValueError(f'{path} is damaged or truncated ({error})') from None
    if damaged is not None:
        raise ValueError(f'{path} is damaged: its part {damaged} does not have the checksum it was written with')
    _load(path, mmap=True)  # torch's reader is stricter about the archive's structure


@dataclass(frozen=True, order=True)
class Saved:
    """Position of the training when it wrote a file."""

    iteration: int
    epoch: int
    path: Path
    run: str | None = None  # equal for all files of a run and of its resumed runs


def read_position(path: Path) -> Saved:
    """Read the few bytes of a training checkpoint that hold its position.

    Raises:
        ValueError: No checkpoint of a training, or damaged where it would say so.
    """
    refuse_bombs(path)
    try:
        with zipfile.ZipFile(path) as archive:
            structure = next(name for name in archive.namelist() if name.endswith('/data.pkl'))
            archive.read(structure)  # compares its checksum, before anything is built from it
    except zipfile.BadZipFile as error:
        if path.stat().st_size and not _starts_as_archive(path):
            return _position_in(_load(path, mmap=False), path)
        raise ValueError(f'{path} is damaged or truncated ({error})') from None
    except Exception as error:
        raise ValueError(f'{path} is damaged ({error!r})') from None
    return _position_in(_load(path, mmap=True), path)


def newest_good(work_dir: str | Path, report: Report) -> str | None:
    """Find the checkpoint to resume from: the newest intact one of the run.

    MMEngine's note ``last_checkpoint`` says which run of those that have used the folder is meant; it may name a path
    from before the folder was moved, and be older than the newest file, as it is after a kill between the two.

    Args:
        work_dir: Of the run.
        report: Told of every damaged file that is passed over.

    Returns:
        A path, or None if the folder holds no checkpoint that is whole.
    """
    work_dir = Path(work_dir)
    noted = _noted(work_dir)
    saved = []
    for path in _numbered_files(work_dir, noted):
        try:
            saved.append(read_position(path))
        except (ValueError, OSError) as error:
            report(logging.WARNING, f'{error}: it is left out.')
    if not saved:
        return None
    run = next((item.run for item in saved if item.path == noted), saved[0].run)
    for item in sorted((item for item in saved if item.run == run), reverse=True):
        try:
            verify(item.path)
            return str(item.path)
        except (ValueError, OSError) as error:
            report(logging.WARNING, f'{error}. Falling back to the one before.')
    return None


class CheckpointWriter:
    """Write one checkpoint at a time in a thread, verify it, and only then remove the ones it replaces.

    A checkpoint that cannot be written is reported and left out: the ones before it stay, and the next one is tried.

    Args:
        report: Told of what goes wrong; called in the thread.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        self.thread = ThreadPoolExecutor(1, 'checkpoint')
        self.pending: Future | None = None
        self.kept: list[Path] = []  # intact files, oldest first
        self.between: Path | None = None  # a file that any later one replaces
        self.obsolete: list[Path] = []  # to remove once the next one is intact

    def save(
        self, content: Mapping[str, Any], path: Path, note: Path | None, keep: int = -1, between: bool = False
    ) -> None:
        """Start to write, after the previous file is finished. ``content`` must not change any more.

        Args:
            content: For ``torch.save``.
            path: The file.
            note: A text file that shall name it; None writes none, and keeps the file out of the counting.
            keep: How many files to keep besides; below 1 all.
            between: Replaced by the next file.
        """
        self.wait()
        self.pending = self.thread.submit(self._write, content, path, note, keep, between)

    def wait(self) -> bool:
        """Wait for the file being written; True if the last one is intact. Bugs of ours are re-raised."""
        return self.pending is None or self.pending.result()

    def _write(self, content: Mapping[str, Any], path: Path, note: Path | None, keep: int, between: bool) -> bool:
        try:
            if not path.parent.is_dir():  # not created again: that would be below the mount point, on another disk
                raise FileNotFoundError(f'the folder {path.parent} is gone')
            write_atomically(path, lambda temporary: torch.save(content, temporary), check=verify)
            if note is not None:
                write_atomically(note, lambda temporary: Path(temporary).write_text(str(path)))
        except (OSError, RuntimeError, ValueError) as error:  # torch turns an OSError of a write into a RuntimeError
            self.report(logging.ERROR, self._explain(path, error))
            return False
        if note is not None:
            self._count(path, keep, between)
        self._remove([old for old in self.obsolete if old != path])
        self.obsolete = []
        return True

    def _count(self, path: Path, keep: int, between: bool) -> None:
        if self.between is not None and self.between != path:
            self.obsolete.append(self.between)
        self.between = path if between else None
        if not between:
            self.kept = [old for old in self.kept if old != path] + [path]
            while 0 < keep < len(self.kept):
                self.obsolete.append(self.kept.pop(0))

    def _remove(self, paths: list[Path]) -> None:
        for path in paths:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                self.report(logging.WARNING, f'{path} is no longer needed, but could not be removed: {error}')

    def _explain(self, path: Path, error: Exception) -> str:
        newest = self.between or (self.kept[-1] if self.kept else None)
        reason = str(error).partition('\n')[0]
        if path.parent.is_dir():
            free = shutil.disk_usage(path.parent).free / 1e6
            writable = '' if os.access(path.parent, os.W_OK) else ', and this process may not write there'
            reason += f'; {free:,.0f} MB are free there{writable}'
        return (
            f'{path} could not be written: {reason}. Training continues and tries again at the next checkpoint. Free '
            f'space in {path.parent}, make it writable, or mount it again. '
            + (f'The last good checkpoint is {newest}.' if newest else 'There is no good checkpoint yet.')
        )


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files left by processes that were killed while writing."""
    for name in ('*.pth', NOTE, 'report.html'):
        for path in folder.glob(f'{name}.*.tmp'):
            path.unlink(missing_ok=True)


def _numbered_files(work_dir: Path, noted: Path | None) -> list[Path]:
    """All ``NAME_NUMBER.pth`` but those of the best scores, the newest first."""
    folders = {work_dir, noted.parent} if noted else {work_dir}
    files = [path for folder in folders for path in folder.glob('*_*.pth')]
    files = [path for path in files if path.stem.rpartition('_')[2].isdigit() and not path.name.startswith('best_')]
    return sorted(filter(is_regular, files), key=_age)


def _age(path: Path) -> int:
    try:
        return -path.stat().st_mtime_ns
    except OSError:  # removed meanwhile
        return 0


def _noted(work_dir: Path) -> Path | None:
    note = work_dir / NOTE
    if not is_regular(note) or note.stat().st_size > 2**16:
        return None
    noted = Path(note.read_text(errors='replace').strip().replace('\0', ''))
    places = (work_dir / noted.name, noted) if noted.name else ()
    return next((path for path in places if is_regular(path)), None)


def _position_in(content: Any, path: Path) -> Saved:
    meta = content.get('meta') if isinstance(content, Mapping) else None
    if not isinstance(meta, Mapping) or not {'epoch', 'iter'} <= meta.keys():
        raise ValueError(f'{path} is not a checkpoint of a training: it does not say its iteration')
    exact = content.get('exact_resume')
    run = exact.get('run') if isinstance(exact, Mapping) else None
    if type(meta['iter']) is not int or type(meta['epoch']) is not int or not isinstance(run, str | None):
        raise ValueError(f'{path} is not a checkpoint of a training: its iteration is not a number')
    if missing := [key for key in ('state_dict', 'message_hub') if not isinstance(content.get(key), Mapping)]:
        raise ValueError(f'{path} is not a checkpoint of a training: it has no {" and no ".join(missing)}')
    return Saved(meta['iter'], meta['epoch'], path, run)


def _load(path: str | Path, mmap: bool) -> Any:
    with open(path, 'rb') as file:
        head = file.read(64)
    return open_pickle(Path(path), head, 'cpu', mmap)


def _starts_as_archive(path: Path) -> bool:
    with open(path, 'rb') as file:
        return file.read(2) == b'PK'
