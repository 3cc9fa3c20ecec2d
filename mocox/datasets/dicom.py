"""DICOM, by pydicom: rescaled numbers, and the window that the file asks to be shown with."""

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from mocox.datasets.extras import MissingExtraError, require_extra
from mocox.datasets.limits import MAX_INFLATED, SMALLER, CountedReads, check_jpeg
from mocox.datasets.raw import Raw, check_size

if TYPE_CHECKING:
    from pydicom import Dataset

NEED = 'DICOM files need'
MAX_FRAMES = 100_000  # of a file; a header that claims more is not believed
# First elements of a file without the preamble: of the file meta group, or of the identifying group.
BARE = (
    b'\x02\0\0\0',
    b'\x02\0\x01\0',
    b'\x08\0\0\0',
    b'\x08\0\x01\0',
    b'\x08\0\x05\0',
    b'\x08\0\x08\0',
    b'\x08\0\x16\0',
)
DEFLATED = b'1.2.840.10008.1.2.1.99'
GROUPS = ('PixelValueTransformationSequence', 'FrameVOILUTSequence')  # of enhanced multi-frame files
GROUP_KEYS = ('RescaleSlope', 'RescaleIntercept', 'WindowCenter', 'WindowWidth', 'VOILUTFunction')


def is_dicom(data: bytes) -> bool:
    """True for a file with the preamble, or without it as in old archives."""
    return data[128:132] == b'DICM' or data[:4] in BARE


def read(data: bytes, frame: int = 0) -> Raw:
    """One frame, by default the first; gray in the unit that the file rescales to (Hounsfield units, say).

    Its range is the file's window; without one, all that its stored bits can hold, up to 16.

    Raises:
        MissingExtraError: pydicom is not installed, or a decoder that the file needs.
        ValueError: It holds no image, or is of a kind that nothing decodes.
    """
    library = require_extra('pydicom', NEED, 'dicom')
    from pydicom import pixels

    file = library.dcmread(CountedReads(_inflated(data)), force=True)
    if not all(key in file for key in ('Rows', 'Columns', 'BitsAllocated', 'PhotometricInterpretation')):
        raise ValueError('a DICOM without an image')
    check_size(file.Rows, file.Columns, file.get('SamplesPerPixel', 1) * -(-file.BitsAllocated // 8))
    _complete_meta(file)
    _check_compressed(file)
    pages = int(file.get('NumberOfFrames') or 1)
    values = _decode(file, frame)  # YBR becomes RGB
    kind = file.PhotometricInterpretation
    if kind == 'PALETTE COLOR':
        values = pixels.apply_color_lut(values, file)
    if values.ndim == 3:
        bits = 8 * values.dtype.itemsize if kind == 'PALETTE COLOR' else file.BitsStored
        return Raw(values, 0, 2**bits - 1, is_colour=True, pages=pages)
    _take_over_groups(file, frame)
    padding = _padding(file)
    values, low, high = _shown(pixels.apply_modality_lut(values, file), file)
    return Raw(values[:, :, None], low, high, is_inverted=kind == 'MONOCHROME1', pages=pages, nodata=padding)


def _plugin(file: 'Dataset') -> str:
    """The decoder of compressed pixels; '' leaves the choice to pydicom.

    GDCM, its first choice, ends the process at some damaged files, so it decodes only what no other decoder here does:
    lossless JPEG and JPEG-LS.
    """
    from pydicom import pixels

    syntax = file.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return ''
    known = pixels.get_decoder(syntax).available_plugins
    return next((name for name in ('pydicom', 'pylibjpeg', 'pillow') if name in known), '')


def _inflated(data: bytes) -> bytes:
    """A deflated file as one without header, whose encoding is the usual one (PS3.5, A.5); others as they are.

    Raises:
        ValueError: It becomes too large.
    """
    start = _end_of_meta(data)
    if DEFLATED not in data[132:start]:
        return data
    found = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[start:], MAX_INFLATED + 1)
    if len(found) > MAX_INFLATED:
        raise ValueError(f'a deflated DICOM of more than {MAX_INFLATED} bytes: {SMALLER}')
    return found


def _end_of_meta(data: bytes) -> int:
    """Offset of the end of group 2, whose elements follow the preamble (PS3.5, 7.1.2)."""
    at = 132
    while data[at : at + 2] == b'\2\0':
        is_long = data[at + 4 : at + 6] in (b'OB', b'OW', b'SQ', b'UN', b'UT')
        at += 12 + _number(data[at + 8 : at + 12]) if is_long else 8 + _number(data[at + 6 : at + 8])
    return at


def _number(data: bytes) -> int:
    return int.from_bytes(data, 'little')


def _check_compressed(file: 'Dataset') -> None:
    """Scans of a JPEG, where that is how the pixels are kept."""
    content = file.get('PixelData') or b''
    if file.file_meta.TransferSyntaxUID.is_encapsulated and isinstance(content, bytes):
        start = content.find(b'\xff\xd8\xff')
        if start >= 0:
            check_jpeg(content[start:])


def count_frames(data: bytes) -> int:
    """Frames of a file, from its header; 1 for what is not a DICOM, or a damaged one."""
    if not is_dicom(data):
        return 1
    library = require_extra('pydicom', NEED, 'dicom')
    try:
        content = CountedReads(_inflated(data))
        file = library.dcmread(content, force=True, stop_before_pixels=True, specific_tags=['NumberOfFrames'])
        frames = int(file.get('NumberOfFrames') or 1)
        return frames if 1 <= frames <= MAX_FRAMES else 1
    except Exception:  # whatever it raises for damaged bytes: the data set says so when it comes to the file
        return 1


def _decode(file: 'Dataset', frame: int) -> np.ndarray:
    from pydicom import pixels, uid

    syntax = file.file_meta.TransferSyntaxUID
    deep_jpeg = syntax == uid.JPEGExtended12Bit and file.get('BitsStored', 8) > 8
    if deep_jpeg:
        require_extra('imagecodecs', 'a DICOM with JPEG of 12 bits needs', 'dicom')
        decoder = pixels.get_decoder(syntax)
        if 'mocox' not in decoder.available_plugins:
            decoder.add_plugin('mocox', ('mocox.datasets.dicom_jpeg', 'decode_frame'))
    shift = 0 if syntax.is_encapsulated else max(file.get('HighBit', 0) + 1 - file.get('BitsStored', 0), 0)
    if 0 < shift < file.BitsAllocated and 'HighBit' in file and 'BitsStored' in file:  # pydicom takes the lower bits
        file.BitsStored += shift
        try:
            return pixels.pixel_array(file, index=frame) >> shift
        finally:
            file.BitsStored -= shift
    try:
        return pixels.pixel_array(file, index=frame, decoding_plugin='mocox' if deep_jpeg else _plugin(file))
    except NotImplementedError as error:  # a RuntimeError too
        raise ValueError(f'a DICOM with {syntax.name}, which nothing here decodes: convert it') from error
    except RuntimeError as error:
        if 'missing dependencies' in str(error):
            cure = 'a decoder that is not installed: pip install "mocox[dicom]"'
            raise MissingExtraError(f'a DICOM with {syntax.name} needs {cure}') from error
        raise


def _complete_meta(file: 'Dataset') -> None:
    """A file without a preamble does not name its encoding; it has been read by then, so it is known."""
    from pydicom import uid

    if not file.file_meta.get('TransferSyntaxUID'):
        implicit, little = file.original_encoding
        explicit = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
        file.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else explicit


def _shown(values: np.ndarray, file: 'Dataset') -> tuple[np.ndarray, float | None, float | None]:
    """The numbers, and those that are shown black and white (PS3.3, C.11.2.1)."""
    from pydicom.pixels import apply_voi_lut

    centre, width = (_first(file.get(key)) for key in ('WindowCenter', 'WindowWidth'))
    if file.get('VOILUTSequence'):
        return apply_voi_lut(values, file, prefer_lut=True), 0, 2 ** file.VOILUTSequence[0].LUTDescriptor[2] - 1
    if centre is None or width is None or width <= 0:
        return values, *_stored_range(file)
    function = file.get('VOILUTFunction') or 'LINEAR'
    if function == 'SIGMOID':
        return 1 / (1 + np.exp(-4 * (values - centre) / width)), 0.0, 1.0
    if function == 'LINEAR_EXACT' or width <= 1:
        return values, centre - width / 2, centre + width / 2
    return values, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2


def _padding(file: 'Dataset') -> float | None:
    """The number, rescaled, that stands for no image; None without one, or where a table changes the numbers."""
    value = file.get('PixelPaddingValue')
    if value is None or file.get('ModalityLUTSequence') or file.get('VOILUTSequence'):
        return None
    if file.get('VOILUTFunction') == 'SIGMOID':
        return None
    return float(value) * float(file.get('RescaleSlope') or 1) + float(file.get('RescaleIntercept') or 0)


def _stored_range(file: 'Dataset') -> tuple[float | None, float | None]:
    if file.get('ModalityLUTSequence'):
        return 0, 2 ** file.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    bits, signed = file.BitsStored, file.get('PixelRepresentation', 0)
    if bits > 16:  # nobody means all of them
        return None, None
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope, intercept = float(file.get('RescaleSlope') or 1), float(file.get('RescaleIntercept') or 0)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return ends[0], ends[1]


def _take_over_groups(file: 'Dataset', frame: int) -> None:
    """Put what an enhanced file says of a frame, or of all, where a simple file says it."""
    shared, own = (file.get(f'{kind}FunctionalGroupsSequence') for kind in ('Shared', 'PerFrame'))
    for group in [*(shared or [])[:1], *(own or [])[frame : frame + 1]]:
        for name in GROUPS:
            item = group.get(name)
            for key in GROUP_KEYS:
                if item and key in item[0]:
                    setattr(file, key, item[0].get(key))


def _first(value: Any) -> float | None:
    """The first of several windows."""
    if value is None or value == '':
        return None
    return float(value[0] if isinstance(value, list | tuple) or hasattr(value, '__getitem__') else value)
