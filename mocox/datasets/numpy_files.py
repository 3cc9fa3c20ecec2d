"""Arrays as NumPy writes them, one per file, without pickles."""

import io
import math
import zipfile
from typing import IO

import numpy as np

from mocox.datasets.number_ranges import fixed_range
from mocox.datasets.raw import MAX_BYTES, Raw, check_size


def is_numpy(data: bytes) -> bool:
    """``.npy``, or ``.npz`` with nothing else in it."""
    return data.startswith(b'\x93NUMPY') or (data.startswith(b'PK\x03\x04') and b'.npy' in data[:300])


def read_numpy(data: bytes) -> Raw:
    """An array (H, W), (H, W, C) or (C, H, W); the channels are the shortest axis, in doubt the last.

    Raises:
        ValueError: Something else, or more than one array.
    """
    if data.startswith(b'PK'):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.infolist()
            if len(names) != 1:
                raise ValueError(f'an .npz of {len(names)} arrays: keep one per file')
            if names[0].file_size > MAX_BYTES:
                raise ValueError(f'an .npz of {names[0].file_size} bytes, more than the {MAX_BYTES} that it may have')
            with archive.open(names[0]) as file:
                _check_promise(file, names[0].file_size)
            data = archive.read(names[0])
    _check_promise(io.BytesIO(data), len(data))
    values = np.load(io.BytesIO(data), allow_pickle=False)
    if values.ndim not in (2, 3) or values.dtype.kind not in 'biuf' or not values.size:
        raise ValueError(f'an array of {values.dtype} {values.shape} is not an image: (H, W), (H, W, C) or (C, H, W)')
    if values.ndim == 2:
        values = values[:, :, None]
    elif values.shape[0] < min(values.shape[1:]):
        values = values.transpose(1, 2, 0)
    check_size(*values.shape[:2])
    count = values.shape[2]
    low, high = fixed_range(values.dtype)
    return Raw(values, low, high, is_colour=count == 3)


def _check_promise(file: IO[bytes], size: int) -> None:
    """Check the header, by which memory is allocated before the numbers are read.

    Args:
        file: At its header.
        size: Its bytes.

    Raises:
        ValueError: It says more than the file holds.
        PIL.Image.DecompressionBombError: More than an image may have.
    """
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0}.get(version, np.lib.format.read_array_header_2_0)
    shape, _, dtype = read(file)
    if math.prod(shape) * dtype.itemsize > size and not dtype.hasobject:
        raise ValueError(f'a truncated array: {dtype} {shape} does not fit into {size} bytes')
    if len(shape) in (2, 3) and min(shape):
        height, width = sorted(shape)[-2:]  # the shortest axis are the channels
        check_size(height, width, math.prod(shape) // (height * width) * dtype.itemsize)
