"""Decompression bombs and their like: small files that would take all memory or time, refused before unpacking."""

import mmap
import pickletools
import stat
import zipfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from mocox.pickles import BYTES, find_cost

MAX_INFLATION = 10  # of a zip file; torch does not compress
MAX_INFLATED_BYTES = 2**30  # largest claimed size of tensors with few numbers
_MAX_OPCODES = 10**6  # of a foreign pickle, looked through without running it
_PICKLES_OF_OLD = 5  # a magic number, a version, the machine, the content, the names of what follows
_MAKES_BYTES = b'bytearray'  # of a mere number, as many as that says; torch allows it, no checkpoint needs it


def is_regular(path: Path) -> bool:
    """True for a regular file: no folder, no device, no dangling link, and no pipe, which would block."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return False


def refuse_bombs(path: Path) -> None:
    """Check a PyTorch file without loading it, in memory that does not grow with its claimed sizes.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No regular file, or one that would unpack to far more than it has.
    """
    if not is_regular(path):
        if not path.exists():
            raise FileNotFoundError(f'no checkpoint at {path}')
        raise ValueError(f'{path} is not a regular file, so not a checkpoint')
    with open(path, 'rb') as file:
        is_archive = file.read(4) == b'PK\x03\x04'  # as torch decides
    for cost in _costs_inside(path) if is_archive else _costs_of_old(path):
        raise ValueError(f'{path} is refused: {cost}')


def _costs_inside(path: Path) -> Iterator[str]:
    """Yield the unbounded costs of the pickles in an archive."""
    size = path.stat().st_size
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # a changed header ends in anything from BadZipFile to NotImplementedError
        raise ValueError(f'{path} is damaged or truncated: copy or download it again ({_name(error)})') from None
    with archive:
        infos = archive.infolist()
        unpacked = sum(info.file_size for info in infos)
        if unpacked > MAX_INFLATION * size:
            raise ValueError(f'{path} is refused: its {size} bytes unpack to {unpacked}, as those of no checkpoint do')
        for info in infos:
            if info.filename.lower().endswith('.pkl'):  # torch finds names in any case
                try:
                    pickled = archive.read(info)
                except Exception as error:
                    raise ValueError(f'{path} is damaged or truncated in {info.filename!a} ({_name(error)})') from None
                yield from _costs(pickled)


def _name(error: Exception) -> str:
    return f'{type(error).__name__}: {str(error)[:100]!a}'


def _costs(pickled: bytes | mmap.mmap) -> Iterator[str]:
    try:
        if cost := find_cost(pickled):  # type: ignore[arg-type]  # a mmap reads as a file does
            yield cost
    except Exception:  # torch will say so, but may have come further
        if pickled.find(_MAKES_BYTES) >= 0:
            yield BYTES


def _costs_of_old(path: Path) -> Iterator[str]:
    """Of a file older than torch 1.6: pickles, then numbers, with no telling where; the word may be anywhere."""
    if not path.stat().st_size:
        return
    with open(path, 'rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(_MAKES_BYTES) >= 0:
            yield BYTES
        for _ in range(_PICKLES_OF_OLD):
            yield from _costs(content)


def refuse_inflated(content: object, path: Path) -> None:
    """Refuse a tensor that claims a size it has no data for: without storage, sparse, or one number repeated.

    Raises:
        ValueError: The tensors claim far more than the file holds.
    """
    claimed, stored, seen, waiting = 0, {}, set(), [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping | list | tuple | set) and id(item) not in seen:  # a pickle can hold itself
            seen.add(id(item))
            waiting += item.values() if isinstance(item, Mapping) else item
        elif isinstance(item, Tensor):
            if item.layout != torch.strided or item.is_meta or item.is_nested:
                raise ValueError(f'{path} is refused: it holds a tensor without its numbers ({item.layout})')
            claimed += item.numel() * item.element_size()
            stored[item.untyped_storage().data_ptr()] = item.untyped_storage().nbytes()
    if claimed > max(MAX_INFLATED_BYTES, MAX_INFLATION * sum(stored.values())):
        raise ValueError(f'{path} is refused: its {sum(stored.values())} bytes of numbers claim to be {claimed}')


def first_call(path: Path) -> str | None:
    """The first name that loading a pickle would import; it is scanned, not run."""
    strings: list[str] = []
    called, ended = None, False
    with open(path, 'rb') as file:
        is_pickle = file.read(1) == b'\x80'
        file.seek(0)
        try:
            for opcode, argument, _ in islice(pickletools.genops(file), _MAX_OPCODES):
                if isinstance(argument, str) and 'UNICODE' in opcode.name:
                    strings = [*strings[-1:], argument]
                elif isinstance(argument, str) and opcode.name in ('GLOBAL', 'INST') and not called:
                    called = argument.replace(' ', '.')
                elif opcode.name == 'STACK_GLOBAL' and len(strings) == 2 and not called:
                    called = '.'.join(strings)
                ended = opcode.name == 'STOP'
        except Exception:  # no pickle, or a damaged one
            ended = False
    return called if is_pickle or ended else None
