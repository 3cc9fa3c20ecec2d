"""Reading and writing of files: never unpickle code, recognise wrong files, write atomically."""

import json
import os
import re
import tempfile
import warnings
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from pickle import UnpicklingError
from typing import Any

import mmengine.logging  # noqa: F401  lets mocox.compat allow what MMEngine's checkpoints carry
import torch
from mmengine.logging import print_log
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mocox.checkpoint import timm_pretrained
from mocox.checkpoint.archives import foreign_kind, zip_kind
from mocox.checkpoint.arrays import read_npz, read_pickle, with_tensors
from mocox.checkpoint.bombs import first_call, refuse_bombs, refuse_inflated
from mocox.checkpoint.parts import WEIGHT_FILES, files_of, main_file, settings_beside

# First bytes of files that people pass by mistake.
_NOT_CHECKPOINTS = (
    (b'version https://git-lfs', 'a Git LFS pointer: run `git lfs pull` to get the file itself'),
    (b'\x89PNG', 'a PNG image'),
    (b'\xff\xd8\xff', 'a JPEG image'),
    (b'\x1f\x8b', 'a gzip archive: unpack it first'),
    (b'<', 'an HTML or XML page, often a failed download'),
)
# mocox.compat allows log histories and NumPy data; parsed arguments and the paths in them, as in DeiT's files, are data
# too. Python 3.13 moved the path classes.
_PATHS = [f'{module}.{kind}' for module in ('pathlib', 'pathlib._local') for kind in ('PosixPath', 'WindowsPath')]
_PLAIN_DATA: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    Namespace,
    *((PurePosixPath, name) for name in _PATHS),
]
_LEGACY_TORCH = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'  # how torch.save began before 1.6
_MAGIC = (b'PK', b'\x80', b'\x89', b'version', b'\x1f\x8b', b'<')  # of other kinds, whatever the file's name says


def open_file(path: str | Path, map_location: str = 'cpu') -> tuple[dict, dict]:
    """Read a checkpoint, whatever its suffix.

    Args:
        path: See :func:`mocox.checkpoint.reading.read`.
        map_location: Device of the tensors.

    Returns:
        The file's content, and what stands beside the weights: safetensors metadata, ``config.json`` as ``config``,
        ``preprocessor_config.json`` as ``preprocessor``.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a checkpoint, damaged, or a pickle that would run code.
    """
    path = find_file(path)
    files, expected = files_of(path)
    content: dict[Any, Any] = {}
    beside = settings_beside(path)
    for file in files:
        part, metadata = _open_one(file, map_location)
        if twice := part.keys() & content.keys():
            raise ValueError(f'{file} holds {min(map(str, twice))} once more than the files beside it')
        content.update(part)
        beside |= metadata
    if lost := expected - content.keys():
        raise ValueError(
            f'{path}: the files it belongs to lack {len(lost)} tensors of their index, such as {min(lost)}'
        )
    return content, beside


def find_file(path: str | Path) -> Path:
    """Resolve a path: a file itself, the main file of a folder, the newest good checkpoint of a work dir.

    Raises:
        FileNotFoundError: No such file.
        ValueError: An address, or a folder without a checkpoint.
    """
    if str(path).startswith(timm_pretrained.PREFIX):
        return timm_pretrained.cached_file(str(path))
    if '://' in str(path):
        raise ValueError(f'{path}: mocox reads local checkpoints only; download the file first and pass its path')
    path = Path(path).expanduser()
    if path.is_dir():
        if found := main_file(path) or _newest(path):
            return found
        raise ValueError(
            f'{path} is a directory without {" or ".join(WEIGHT_FILES)} and without checkpoints of a training: '
            'pass a checkpoint file'
        )
    if not path.is_file():
        raise FileNotFoundError(f'no checkpoint at {path}')
    return path


def newest_in(path: str | Path) -> str | Path:
    """The newest good checkpoint of a work dir, for its name and hash; any other path unchanged."""
    folder = Path(path).expanduser()
    return find_file(path) if folder.is_dir() and main_file(folder) is None else path


def _newest(work_dir: Path) -> Path | None:
    from mocox.checkpoint.durable import newest_good  # which reads files as well

    found = newest_good(work_dir, lambda level, text: print_log(text, logger='current', level=level))
    return Path(found) if found else None


def _open_one(path: Path, map_location: str) -> tuple[dict, dict]:
    with open(path, 'rb') as file:
        head = file.read(64)
    if _is_safetensors(path, head):
        return _open_safetensors(path, map_location)
    if kind := foreign_kind(path):
        raise ValueError(f'{path} is not a checkpoint but {kind}')
    if head.startswith(b'PK'):
        kind, what = zip_kind(path)
        if kind == 'foreign':
            raise ValueError(f'{path} is {what}')
        if kind == 'npz':
            refuse_bombs(path)
            return read_npz(path)
    elif head.startswith(b'\x80') and not head.startswith(_LEGACY_TORCH) and (content := read_pickle(path)):
        return content, {}
    opened = open_pickle(path, head, map_location)
    if not isinstance(opened, Mapping):
        raise ValueError(f'{path} holds a {type(opened).__name__}, not a dict of tensors: not a checkpoint')
    return with_tensors(dict(opened)), {}


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: dict, **fields) -> None:
    """Write tensors with mocox's metadata, as safetensors or for ``torch.load``, by suffix.

    Args:
        path: ``.safetensors``, or anything else for PyTorch.
        tensors: What to write; every tensor is copied, so that no file carries a larger storage along.
        metadata: Goes below the key ``mocox``.
        fields: Further top-level entries of a PyTorch file.
    """
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    if Path(path).suffix == '.safetensors':
        header = {'format': 'pt', 'mocox': json.dumps(metadata)}
        write_atomically(path, lambda temporary: save_file(own, temporary, header))
    else:
        write_atomically(
            path, lambda temporary: torch.save({**fields, 'state_dict': own, 'mocox': metadata}, temporary)
        )


def write_atomically(
    path: str | Path, write: Callable[[str], object], check: Callable[[str], object] | None = None
) -> None:
    """Call ``write`` with a temporary file's name beside ``path``, then rename: a reader never sees half a file.

    The file's content is on the disk before it gets its name, and the name is before this returns: neither a killed
    process nor a power cut leaves a broken file under ``path``, and what was there stays until the new one is whole.

    Args:
        path: Where the file is wanted.
        write: Writes the temporary file whose name it gets.
        check: Called with the same name after the file is on the disk; the file is dropped if this raises.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name + '.', suffix='.tmp')
    os.close(handle)
    try:
        write(temporary)
        _flush(temporary)
        if check is not None:
            check(temporary)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not say where
        raise
    finally:
        Path(temporary).unlink(missing_ok=True)
    if os.name == 'posix':  # elsewhere a folder cannot be opened
        _flush(path.parent)


def _flush(path: str | Path) -> None:
    """Flush a file, or a folder's entries, to disk; the file leaves the page cache, so that a check reads the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        if hasattr(os, 'posix_fadvise'):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _is_safetensors(path: Path, head: bytes) -> bool:
    is_header = head[8:9] == b'{' and int.from_bytes(head[:8], 'little') < 2**32
    return is_header or (path.suffix == '.safetensors' and not head.startswith(_MAGIC))


def _open_safetensors(path: Path, map_location: str) -> tuple[dict, dict]:
    try:
        with safe_open(str(path), 'pt', device=str(map_location)) as file:
            metadata = file.metadata() or {}
            return {name: file.get_tensor(name) for name in file.keys()}, _mocox_metadata(metadata)  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f'{path} is {describe_file(path)} ({error})') from None


def _mocox_metadata(metadata: dict) -> dict:
    try:
        found = json.loads(metadata['mocox'])
    except (KeyError, ValueError, RecursionError):
        return {}
    return {'mocox': found} if isinstance(found, dict) else {}


def open_pickle(path: Path, head: bytes, map_location: str, mmap: bool = False) -> object:
    """Open a file with ``torch.load`` without running code; an error says why that fails.

    Args:
        path: A file.
        head: Its first bytes, 16 at least.
        map_location: Device of the tensors.
        mmap: Read tensors when they are used; for files that are zip archives.

    Raises:
        ValueError: Not such a file, damaged, or one that would run code.
    """
    refuse_bombs(path)
    try:
        with torch.serialization.safe_globals(_PLAIN_DATA), warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'Detected pickle protocol')
            with open(path, 'rb') as file:  # torch believes a name that ends in .safetensors
                source = file if path.suffix == '.safetensors' else path
                content = torch.load(source, map_location=map_location, mmap=mmap, weights_only=True)
    except torch.OutOfMemoryError:  # of a GPU
        raise
    except Exception as error:  # the unpickler raises anything
        wanted = re.search(r"(?:GLOBAL|instantiate|class|function) '?([\w.]+\.[\w.]+)", str(error))
        is_foreign = not head.startswith((b'PK', _LEGACY_TORCH))
        called = wanted[1] if wanted else is_foreign and first_call(path)
        if called:
            what = 'a Python pickle, not a file of torch.save, and ' if is_foreign else ''
            raise ValueError(
                f'{path} is {what}refused: loading it would call {called}, which weights do not need and which may be '
                'malicious. If you trust its author, load it with their own program and save the state dict alone'
            ) from None
        # torch's own message advises loading it unsafely
        detail = '' if isinstance(error, UnpicklingError) else f': {str(error).partition(chr(10))[0][:200]}'
        raise ValueError(f'{path} is {describe_file(path)} ({type(error).__name__}{detail})') from None
    if str(map_location) != 'meta':
        refuse_inflated(content, path)
    return content


def describe_file(path: Path) -> str:
    """Describe what an unreadable file seems to be."""
    with open(path, 'rb') as file:
        head = file.read(512)
    if not head:
        return 'empty'
    for magic, what in _NOT_CHECKPOINTS:
        if head.lstrip().startswith(magic):
            return f'not a checkpoint but {what}'
    if head.startswith(b'\x80') and not head.startswith(_LEGACY_TORCH):
        return 'a Python pickle, not a file of torch.save'
    if head.startswith((b'PK', _LEGACY_TORCH)) or head[8:9] == b'{':
        return 'a damaged or truncated checkpoint: copy or download it again'
    return 'not a checkpoint' + (' but a text file' if _is_text(head) else '')


def _is_text(head: bytes) -> bool:
    return all(byte >= 32 or byte in b'\t\n\r' for byte in head)
