"""Recognise the kind of a file by its content."""

import zipfile
from pathlib import Path

# Magic bytes at the beginning of a file, or a little later, and the kind of file.
_KINDS = (
    (0, b'\x89HDF\r\n', 'an HDF5 file, as Keras and h5py write it: export its weights as .npz or .safetensors'),
    (0, b'GGUF', 'a GGUF file of quantised weights'),
    (0, b'\x93NUMPY', 'a single NumPy array, not the tensors of a model by name: use numpy.savez'),
    (0, b'BZh', 'a bzip2 archive: unpack it first'),
    (0, b'\xfd7zXZ', 'an xz archive: unpack it first'),
    (0, b'7z\xbc\xaf', 'a 7-Zip archive: unpack it first'),
    (0, b'Rar!', 'a RAR archive: unpack it first'),
    (0, b'(\xb5/\xfd', 'a Zstandard archive: unpack it first'),
    (4, b'TFL3', 'a TensorFlow Lite model'),
    (257, b'ustar', 'a tar archive: unpack it first'),
)
_ONNX = (b'\x08\x03\x12', b'\x08\x04\x12', *(bytes([8, i, 18]) for i in range(5, 14)))


def foreign_kind(path: Path) -> str | None:
    """Name the kind of a file that holds no named weights; None if nothing speaks against it."""
    with open(path, 'rb') as file:
        head = file.read(512)
    if head.startswith(_ONNX):
        return 'an ONNX model: save the state dict of the PyTorch model it was exported from'
    return next((what for start, magic, what in _KINDS if head[start:].startswith(magic)), None)


def zip_kind(path: Path) -> tuple[str, str]:
    """``torch``, ``npz`` or ``foreign``, and for a foreign archive its kind and how to read its tensors."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # damaged: torch says so
        return 'torch', ''
    folders = [name.rpartition('/')[2] for name in names]
    if any(name.endswith('constants.pkl') for name in names) and 'data.pkl' in folders:
        how = 'torch.save(torch.jit.load(FILE).state_dict(), OUT), if you trust its author: it is a program'
        return 'foreign', f'a TorchScript program, not a checkpoint: {how}'
    if any(name.endswith('data.pkl') for name in names) or not names:
        return 'torch', ''
    if all(name.endswith('.npy') for name in names):
        return 'npz', ''
    if {'config.json', 'model.weights.h5'} <= set(names):
        return 'foreign', 'a model of Keras: export its weights as .npz or .safetensors'
    listed = ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
    return 'foreign', f'a zip archive of {len(names)} files ({listed!a}): unpack it and pass the checkpoint in it'
