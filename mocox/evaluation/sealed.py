"""Authenticated files: safetensors followed by a keyed checksum that only this user can compute.

The key lies in the user's own folder of states, not beside the files: whoever may write where the files are cannot make
a checksum that fits.
"""

import hmac
import os
import secrets
import tempfile
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mocox.checkpoint.files import write_atomically

BYTES = 32  # of a key, and of a checksum: HMAC with SHA-256


def write_sealed(file: Path, tensors: dict[str, Tensor], key: bytes) -> None:
    """Write tensors atomically into a folder that only the user may enter.

    Args:
        file: Its name and that of its folder are part of the checksum: no file passes for another.
        tensors: On the CPU.
        key: See :func:`user_key`.

    Raises:
        ValueError: The folder is a link to another one.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.parent.is_symlink():  # whose target, anybody's folder, would be closed to others
        raise ValueError(f'{str(file.parent)!r} is a link, not a folder of features: remove it')
    os.chmod(file.parent, 0o700)
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    write_atomically(file, lambda path: Path(path).write_bytes(content + _seal(file, content, key)))


def read_sealed(file: Path, key: bytes) -> dict[str, Tensor]:
    """The tensors of a file that :func:`write_sealed` has written with this key.

    Raises:
        ValueError: It is damaged, another file, or somebody else has written it.
    """
    if not file.is_file():
        raise ValueError(f'{str(file)!r} is not a regular file')
    data = file.read_bytes()
    content, seal = data[:-BYTES], data[-BYTES:]
    if not hmac.compare_digest(seal, _seal(file, content, key)):
        raise ValueError(f'{str(file)!r} is damaged, or not written with the key {str(key_file())!r}')
    try:
        return load(content)
    except SafetensorError as error:
        raise ValueError(f'{str(file)!r} is damaged ({error})') from error


def remove_sealed(folder: Path) -> None:
    """Remove the files of :func:`write_sealed` below a folder, and folders that this empties; nothing else."""
    for file in folder.glob('*/*.features'):
        if file.is_file() and not file.is_symlink() and not file.parent.is_symlink():
            file.unlink()
    for place in (*folder.glob('*'), folder):
        if place.is_dir() and not place.is_symlink() and not any(place.iterdir()):
            place.rmdir()


def _seal(file: Path, content: bytes, key: bytes) -> bytes:
    digest = hmac.new(key, os.fsencode(f'{file.parent.name}/{file.name}') + b'\0', 'sha256')
    digest.update(content)
    return digest.digest()


def key_file() -> Path:
    """``~/.local/state/mocox/features.key``, or below ``XDG_STATE_HOME``."""
    return Path(os.environ.get('XDG_STATE_HOME') or '~/.local/state').expanduser() / 'mocox' / 'features.key'


def user_key() -> bytes:
    """The key of this user, made where there is none; one for this process alone where it cannot be kept.

    A key that others may read is made anew.
    """
    file = key_file()
    return _read_key(file) or _make_key(file)


def _read_key(file: Path) -> bytes | None:
    try:
        state = file.stat()
        is_own = state.st_size == BYTES
        if hasattr(os, 'getuid'):  # Windows has neither owners nor modes to go by
            is_own = is_own and not state.st_mode & 0o077 and state.st_uid == os.getuid()
        return file.read_bytes() if is_own and file.is_file() else None
    except OSError:
        return None


def _make_key(file: Path) -> bytes:
    """Create the key. Of several processes that do so at once one wins, and all read its key."""
    key = secrets.token_bytes(BYTES)
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if file.exists():  # not ours, or open to others
            file.unlink()
        handle, temporary = tempfile.mkstemp(dir=file.parent)  # 0600
        with os.fdopen(handle, 'wb') as output:
            output.write(key)
        try:
            os.link(temporary, file)
        except FileExistsError:
            pass
        finally:
            os.unlink(temporary)
    except OSError:  # no home, or one that cannot be written
        return key
    return _read_key(file) or key
