"""Pickles of strangers: what may be built from one, and what a few bytes of one may not ask for."""

import pickle
import pickletools
import struct
from collections import OrderedDict
from typing import IO, Any

import numpy as np

BYTES = 'it builds a bytearray, which may take any amount of memory'
NESTED = 'it nests tuples in tuples, of which a few bytes would take for ever to look up'
CODEC = 'it encodes text in a way that takes for ever for a long one'
_MOST_SHARED = 10  # times as much in a tuple as there are instructions: what stands in several places counts each time
_FEW = 10**6
_CODECS = ('latin1',)  # how NumPy's bytes are written; others take a time that grows with the square of the text


class RefusedPickle(Exception):
    """The pickle wants something that is not an array."""


def find_cost(pickled: bytes | IO[bytes]) -> str:
    """Name what a pickle would take any amount of time or memory for, '' if nothing.

    It is looked through, not run: every instruction moves the number of values that it stands for, and the last text
    in it, over a stack of our own. For several pickles in a row, as in files older than torch 1.6, call it once each.

    Args:
        pickled: Bytes, or a file in memory, which is left standing after the pickle.

    Raises:
        ValueError: It ends before it should, or is none.
    """
    stack: list[tuple[int, str]] = []
    marks: list[int] = []  # how high the stack stood
    memo: dict[Any, tuple[int, str]] = {}
    for number, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
        name = opcode.name
        if name in ('BINPUT', 'LONG_BINPUT', 'PUT', 'MEMOIZE'):
            memo[len(memo) if name == 'MEMOIZE' else argument] = stack[-1]
            continue
        if name in ('BINGET', 'LONG_BINGET', 'GET'):
            stack.append(memo[argument])
            continue
        if name == 'MARK':
            marks.append(len(stack))
            continue
        taken = _take(stack, marks, opcode.stack_before)
        weight = min(1 + sum(item[0] for item in taken), 2**62)
        text = argument if isinstance(argument, str) else taken[-1][1] if taken else ''
        if name == 'STACK_GLOBAL':
            text = f'{taken[0][1]} {text}'
        if name in ('GLOBAL', 'INST', 'STACK_GLOBAL') and text.endswith('bytearray'):
            return BYTES
        if name == 'REDUCE' and taken[0][1] == '_codecs encode' and text not in _CODECS:
            return CODEC
        if weight > _MOST_SHARED * number + _FEW and 'TUPLE' in name:
            return NESTED
        stack += [(weight, text)] * len(opcode.stack_after)
    return ''


def _take(stack: list, marks: list[int], before: list) -> list[tuple[int, str]]:
    """Take from the stack what an instruction takes, with the mark below it if it needs one."""
    if pickletools.markobject in before:
        mark = marks.pop()
        start = mark - before.index(pickletools.markobject)
    else:
        start = mark = len(stack) - len(before)
    if start < 0:
        raise ValueError('it takes from an empty stack')
    taken = stack[start:]
    del stack[start:]
    return taken


class _Array:
    """Stands for numpy.ndarray, which a pickle could make of any size."""


def _empty(kind: type, shape: tuple, code: bytes) -> np.ndarray:
    return np.empty(0, np.int8)  # what follows in the pickle gives it its shape and numbers


def _from_buffer(data: bytes, dtype: np.dtype, shape: tuple, order: Any) -> np.ndarray:
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _scalar(dtype: np.dtype, data: bytes) -> object:
    return np.frombuffer(data, dtype)[0]


def _latin1(text: str, encoding: str) -> bytes:
    return text.encode('latin1')


_PythonUnpickler: Any = vars(pickle)['_Unpickler']  # not a public name


class ArrayUnpickler(_PythonUnpickler):
    """Builds dicts, lists, plain values and arrays of numbers; calls no function of the pickle's choice.

    Python's own unpickler, slower than the one in C, whose memory a few bytes can blow up. Have a pickle looked through
    by :func:`find_cost` before.
    """

    dispatch = dict(_PythonUnpickler.dispatch)
    known = {
        ('collections', 'OrderedDict'): OrderedDict,
        ('numpy', 'ndarray'): _Array,
        ('numpy', 'dtype'): np.dtype,
        ('_codecs', 'encode'): _latin1,
        **{
            (f'numpy.{core}.{module}', name): made
            for core in ('core', '_core')
            for module, name, made in (
                ('multiarray', '_reconstruct', _empty),
                ('multiarray', 'scalar', _scalar),
                ('numeric', '_frombuffer', _from_buffer),
            )
        },
    }

    def find_class(self, module: str, name: str) -> object:
        """Stand-ins for what arrays need, and nothing else."""
        if (module, name) not in self.known:
            raise RefusedPickle(f'{module}.{name}')
        return self.known[module, name]

    def load_build(self) -> None:
        """Numbers into an array, byte order into a type; attributes of anything else are refused."""
        if not isinstance(self.stack[-2], np.ndarray | np.dtype):
            raise RefusedPickle(f'{type(self.stack[-2]).__name__}.__setstate__')
        super().load_build()

    def load_bytearray8(self) -> None:
        """Never more than the file has, whatever the length says."""
        (length,) = struct.unpack('<Q', self.read(8))
        self.append(bytearray(self.read(length)))

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
