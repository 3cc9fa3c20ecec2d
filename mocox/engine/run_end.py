"""Locks and settings that a run holds while it lasts, released however it ends."""

import errno
import os
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from mmengine.logging import print_log
from mmengine.runner import Runner

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = '.training.lock'
_PATIENCE_S = 3.0  # for a process that is about to end
_held: dict[Path, int] = {}  # descriptors of the locks of this process


def at_end(runner: Runner, act: Callable[[], object]) -> None:
    """Call a function when the runner's training ends, also by an error before its loop, Ctrl-C or ``SystemExit``."""
    vars(runner).setdefault('endings', ExitStack()).callback(act)  # closed by mocox.compat: hooks are not told


def lock_work_dir(folder: str | Path, patience_s: float = _PATIENCE_S) -> None:
    """Lock a work dir for the training of this process; a second call in the same process does nothing.

    The lock is the system's: it ends with the process, however that ends, and holds between machines as far as the
    network disk implements POSIX locks (NFS 4 and Lustre with ``flock`` do). Without any, a warning says so.

    Raises:
        ValueError: Another process trains there.
    """
    path = Path(folder).resolve() / LOCK
    if fcntl is None or path in _held:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    deadline = time.monotonic() + patience_s
    while (problem := _try_lock(descriptor)) in (errno.EACCES, errno.EAGAIN):
        if time.monotonic() > deadline:
            who = os.pread(descriptor, 200, 0).decode(errors='replace')
            os.close(descriptor)
            raise ValueError(
                f'{folder} is in use: another training ({who.strip()!a}) writes there. Wait until it ends, stop it, or '
                'choose another --work-dir'
            )
        time.sleep(0.1)
    if problem:
        print_log(f'{folder} cannot be locked ({os.strerror(problem)}): do not train there twice.', 'current', 30)
    _held[path] = descriptor
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f'process {os.getpid()} on {socket.gethostname()}\n'.encode(), 0)


def unlock_work_dir(folder: str | Path) -> None:
    """Unlock it; the file stays, as removing it would let two others in at once."""
    descriptor = _held.pop(Path(folder).resolve() / LOCK, None)
    if descriptor is not None:
        os.close(descriptor)


def _try_lock(descriptor: int) -> int:
    """0, or the number of the error. Unlike ``flock``, this lock is not inherited by loader workers that outlive us."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno or errno.EIO
    return 0
