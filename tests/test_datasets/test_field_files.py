"""Kinds of files that few programs write, each against the numbers that it was made from."""

import io
import itertools
import struct
import zlib
from collections.abc import Callable

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from pydicom import Dataset, dcmread, uid
from pydicom.dataset import FileMetaDataset

from mocox.datasets import ImageFiles, Pixels, decode
from mocox.datasets.jpeg_xl import header_of

DEEP = dict(depth=16)
GRAY = dict(channels=1, depth=16)


def numbers(bands: int, bits: int = 16, dtype: str = 'u2') -> np.ndarray:
    """(48, 64, bands) over all that so many bits hold."""
    return np.random.default_rng(bands + bits).integers(0, 2**bits, (48, 64, bands)).astype(dtype)


def patches(bands: int, bits: int, dtype: str = 'u2') -> np.ndarray:
    """Of 24 x 32 pixels, for codecs that lose something at edges."""
    values = np.random.default_rng(bands + bits).integers(0, 2**bits, (2, 2, bands))
    return values.repeat(24, 0).repeat(32, 1).astype(dtype)


def tiff(values: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values.squeeze(), **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))


def png(values: np.ndarray, colour: int, before: bytes = b'', behind: bytes = b'') -> bytes:
    """Of 16 bits, byte by byte."""
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in values)
    header = struct.pack('>IIBBBBB', values.shape[1], values.shape[0], 16, colour, 0, 0, 0)
    parts = chunk(b'IHDR', header) + before + chunk(b'IDAT', zlib.compress(rows)) + behind + chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + parts


TURN = b'MM\0*' + struct.pack('>IHHHIHHI', 8, 1, 274, 3, 1, 6, 0, 0)  # EXIF: a quarter to the right
G16, C16, C12 = numbers(1), numbers(3), numbers(3, 12)
COLOURS = np.random.default_rng(0).integers(0, 2**16, (3, 2**16)).astype('u2')  # of a palette
FLOATS = np.random.default_rng(0).random((48, 64, 3)).astype('f4')
UNIT = dict(value_range=(0.0, 1.0))


def thumbnail_first() -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(C16[::2, ::2].astype('u1'), photometric='rgb', subfiletype=1)
        writer.write(C16.astype('u1'), photometric='rgb')
    return buffer.getvalue()


def pyramid() -> bytes:
    """Of an OME file, whose smaller copies hang below each plane."""
    buffer, planes = io.BytesIO(), np.ascontiguousarray(C16.transpose(2, 0, 1))
    with tifffile.TiffWriter(buffer, ome=True) as writer:
        writer.write(planes, subifds=1, tile=(16, 16), metadata=dict(axes='CYX'), photometric='minisblack')
        half = np.ascontiguousarray(planes[:, ::2, ::2])
        writer.write(half, subfiletype=1, tile=(16, 16), photometric='minisblack')
    return buffer.getvalue()


def first_of_two_channels() -> bytes:
    """Two slices of an OME image that keeps its second channel in another file."""
    places = ''.join(
        f'<TiffData FirstC="{i}" IFD="0" PlaneCount="2"><UUID FileName="{i}.ome.tif">urn:uuid:{i}</UUID></TiffData>'
        for i in range(2)
    )
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:0"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="64" SizeY="48" SizeC="2" SizeZ="2" '
        f'SizeT="1">{places}</Pixels></Image></OME>'
    )
    return tiff(numbers(2).transpose(2, 0, 1), photometric='minisblack', description=text, metadata=None)


def big_tiff(dtype: str, order: str) -> bytes:
    values = np.ascontiguousarray(FLOATS.astype(dtype).transpose(2, 0, 1))
    options = dict(planarconfig='separate', compression='zstd', predictor=3, tile=(16, 32), bigtiff=True)
    return tiff(values, photometric='rgb', byteorder=order, **options)


def pam(values: np.ndarray, white: int, kind: bytes) -> bytes:
    height, width, depth = values.shape
    head = b'P7\n# by hand\nWIDTH %d\nHEIGHT %d\nDEPTH %d\nMAXVAL %d\nTUPLTYPE %s\nENDHDR\n'
    return head % (width, height, depth, white, kind) + values.astype('>u2' if white > 255 else 'u1').tobytes()


def text(values: np.ndarray) -> bytes:
    return b'\n'.join(b' '.join(b'%d' % number for number in row) + b' # row' for row in values.reshape(48, -1))


def jpeg_of_12_bits(values: np.ndarray, exif: bytes = b'') -> bytes:
    data = imagecodecs.jpeg_encode(values.squeeze(), level=100, bitspersample=12, subsampling='444')
    return data[:2] + (b'\xff\xe1' + struct.pack('>H', len(exif) + 8) + b'Exif\0\0' + exif) * bool(exif) + data[2:]


# Name, file, the numbers that it was made from, the largest of them, options, levels of 255 that may differ.
FILES: list[tuple[str, Callable[[], bytes], np.ndarray, int, dict, float]] = [
    ('palette of 16 bits', lambda: tiff(G16, photometric='palette', colormap=COLOURS),
     COLOURS[:, G16[:, :, 0]].transpose(1, 2, 0), 65535, DEEP, 0),
    ('WebP in a TIFF', lambda: tiff(C16.astype('u1'), photometric='rgb', compression='webp',
                                    compressionargs=dict(lossless=True)), C16.astype('u1'), 255, {}, 0),
    ('JPEG XL in a TIFF', lambda: tiff(C16, photometric='rgb', compression='jpegxl',
                                       compressionargs=dict(lossless=True)), C16, 65535, DEEP, 0),
    ('thumbnail in front of the image', thumbnail_first, C16.astype('u1'), 255, {}, 0),
    ('pyramid of an OME-TIFF', pyramid, C16, 65535, dict(channels=3, depth=16), 0),
    ('white is zero, floating point', lambda: tiff(FLOATS[:, :, :1], photometric='miniswhite'),
     1 - FLOATS[:, :, :1], 1, dict(channels=1, **UNIT), 1e-2),
    ('white is zero, signed', lambda: tiff((G16.astype('i4') - 32768).astype('i2'), photometric='miniswhite'),
     65535 - G16, 65535, GRAY, 0),
    ('white is zero, with alpha', lambda: tiff(numbers(2), photometric='miniswhite', planarconfig='contig',
                                               extrasamples=['unassalpha']),
     np.dstack([65535 - numbers(2)[:, :, :1], numbers(2)[:, :, 1:]]), 65535, dict(channels=2, depth=16), 0),
    *((f'BigTIFF of {dtype}, {order}, tiles, planes apart, predictor', lambda d=dtype, o=order: big_tiff(d, o),
       FLOATS.astype(dtype).astype('f8'), 1, dict(depth=16, **UNIT), 1e-2)
      for dtype, order in itertools.product(('f2', 'f4', 'f8'), '<>')),
    ('JPEG of 12 bits, gray', lambda: jpeg_of_12_bits(patches(1, 12)), patches(1, 12), 4095, GRAY, 0.1),
    ('JPEG of 12 bits, colour', lambda: jpeg_of_12_bits(patches(3, 12)), patches(3, 12), 4095, {}, 1),
    ('JPEG of 12 bits, turned', lambda: jpeg_of_12_bits(patches(1, 12), TURN),
     np.rot90(patches(1, 12), -1), 4095, GRAY, 0.1),
    ('lossless JPEG of 16 bits', lambda: imagecodecs.ljpeg_encode(G16[:, :, 0]), G16, 65535, GRAY, 0),
    ('lossless JPEG of 12 bits', lambda: imagecodecs.ljpeg_encode(C12[:, :, 0], bitspersample=12),
     C12[:, :, :1], 4095, GRAY, 0.01),
    ('JPEG-LS of 16 bits', lambda: imagecodecs.jpegls_encode(G16[:, :, 0]), G16, 65535, GRAY, 0),
    ('JPEG-LS of 8 bits, colour', lambda: imagecodecs.jpegls_encode(C16.astype('u1')), C16.astype('u1'), 255, {}, 0),
    *((f'JPEG 2000 of {bits} bits', lambda b=bits: imagecodecs.jpeg2k_encode(
        numbers(1, b, 'u1')[:, :, 0], level=0, reversible=True, bitspersample=b),
       numbers(1, bits, 'u1'), 2**bits - 1, {}, 0.6) for bits in (1, 4, 6)),
    ('JPEG 2000 of 8 bits, signed', lambda: imagecodecs.jpeg2k_encode(
        (G16[:, :, 0] >> 8).astype('i2').__sub__(128).astype('i1'), level=0, reversible=True), G16 >> 8, 255, {}, 0),
    ('JPEG XL of 12 bits', lambda: imagecodecs.jpegxl_encode(C12, lossless=True, bitspersample=12),
     C12, 4095, DEEP, 0.01),
    ('JPEG XL of 10 bits, gray', lambda: imagecodecs.jpegxl_encode(
        numbers(1, 10)[:, :, 0], lossless=True, bitspersample=10), numbers(1, 10), 1023, GRAY, 0.01),
    ('JPEG XL of 5 bands', lambda: imagecodecs.jpegxl_encode(
        np.ascontiguousarray(numbers(5).transpose(2, 0, 1)), lossless=True, planar=True),
     numbers(5), 65535, dict(channels=5, depth=16), 0),
    ('JPEG XL, animated', lambda: imagecodecs.jpegxl_encode(np.stack([C16, C16[::-1]]), lossless=True),
     C16, 65535, DEEP, 0),
    ('JPEG XL of floating point', lambda: imagecodecs.jpegxl_encode(FLOATS, lossless=True),
     FLOATS, 1, dict(depth=16, **UNIT), 1e-2),
    *((f'AVIF of {bits} bits', lambda b=bits: imagecodecs.avif_encode(
        patches(3, b), level=100, bitspersample=b, pixelformat='444'), patches(3, bits), 2**bits - 1, DEEP, 0.15)
      for bits in (10, 12)),
    ('PGM as text, 12 bits', lambda: b'P2 # a scan\n64 48\n4095\n' + text(C12[:, :, 0]),
     C12[:, :, :1], 4095, GRAY, 0.01),
    ('PPM as text, 12 bits', lambda: b'P3\n64 48\n4095\n' + text(C12), C12, 4095, DEEP, 0.01),
    ('PAM of 16 bits and alpha', lambda: pam(numbers(4), 65535, b'RGB_ALPHA'), numbers(4)[:, :, :3], 65535, DEEP, 0),
    ('PAM of 8 bits, gray', lambda: pam(numbers(1, 8), 255, b'GRAYSCALE'), numbers(1, 8), 255, {}, 0),
    ('PFM, colour, big-endian', lambda: b'PF\n64 48\n1.0\n' + FLOATS[::-1].astype('>f4').tobytes(),
     FLOATS, 1, dict(depth=16, **UNIT), 1e-2),
    ('PNG, one level of 16 bits transparent', lambda: png(G16, 0, chunk(b'tRNS', struct.pack('>H', int(G16[0, 0, 0])))),
     np.dstack([G16, np.where(G16[0, 0, 0] == G16, 0, 65535)]), 65535, dict(channels=2, depth=16), 0),
    ('PNG of 16 bits with gamma and significant bits', lambda: png(
        C16, 2, chunk(b'gAMA', struct.pack('>I', 100000)) + chunk(b'sBIT', b'\x0c\x0c\x0c')), C16, 65535, DEEP, 0),
    ('PNG of 16 bits, turned by EXIF behind the pixels', lambda: png(C16, 2, behind=chunk(b'eXIf', TURN)),
     np.rot90(C16, -1), 65535, DEEP, 0),
]  # fmt: skip


@pytest.mark.parametrize(('make', 'truth', 'white', 'options', 'tolerance'), [row[1:] for row in FILES],
                         ids=[row[0] for row in FILES])  # fmt: skip
def test_pixels(make, truth, white, options, tolerance):
    pixels = Pixels(**options)
    found = decode(make(), pixels=pixels).astype(np.float64) / (257 if pixels.bits == 16 else 1)
    expected = truth.astype(np.float64) * 255 / white
    assert found.shape[:2] == expected.shape[:2]
    assert np.abs(found - expected).max() <= tolerance + 1e-6


@pytest.mark.parametrize(
    ('make', 'words'),
    [
        (lambda: tiff(C16, photometric='cielab'), 'a TIFF of CIELab of 16 bits: convert it to red, green and blue'),
        (lambda: tiff(C16, photometric='ycbcr', subsampling=(1, 1)), 'a TIFF of YCbCr of 16 bits: convert it'),
        (lambda: tiff(G16, photometric='cfa'), 'a TIFF of a colour filter array of 16 bits: convert it'),
        (first_of_two_channels, '1 of the 2 channels are in other files: write an OME-TIFF of them all'),
        (lambda: b'P7\nWIDTH 64\nDEPTH 1\nMAXVAL 255\nENDHDR\n' + bytes(64), 'a PAM without WIDTH, HEIGHT'),
        (lambda: pam(G16, 65535, b'GRAYSCALE')[:-2], 'a truncated PNM'),
        (lambda: b'P2 64 48 4095 ' + text(G16)[:90], 'a truncated PNM'),
    ],
)
def test_words(make, words):
    with pytest.raises(ValueError, match=words):
        decode(make(), pixels=Pixels(**DEEP))


def test_24_bits_that_tifffile_takes_for_others():
    values = np.random.default_rng(0).integers(0, 2**24, (48, 64))
    rows = (values[:, :, None] >> np.array([16, 8, 0]) & 255).astype('u1').tobytes()
    tags = {256: 64, 257: 48, 258: 24, 259: 1, 262: 1, 273: 8, 277: 1, 278: 48, 279: len(rows)}
    entries = b''.join(struct.pack('>HHII', tag, 4, 1, value) for tag, value in tags.items())
    data = b'MM\0*' + struct.pack('>I', 8 + len(rows)) + rows + struct.pack('>H', len(tags)) + entries + bytes(4)
    with pytest.raises(ValueError, match='a TIFF of 24 bits per sample: convert it to 32 or 64 bits'):
        decode(data, pixels=Pixels(**GRAY))


def dicom(values: np.ndarray, **elements) -> bytes:
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = '1.2.840.10008.5.1.4.1.1.7'
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = '1.2.3'
    file.Rows, file.Columns, file.SamplesPerPixel = 48, 64, 1
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 12, 11, values.dtype.kind == 'i'
    file.PhotometricInterpretation = 'MONOCHROME2'
    file.PixelData = values.tobytes()
    file['PixelData'].VR = 'OW'
    for name, value in elements.items():
        setattr(file, name, value)
    buffer = io.BytesIO()
    file.save_as(buffer, enforce_file_format=True)
    assert dcmread(io.BytesIO(buffer.getvalue())).Rows == 48
    return buffer.getvalue()


@pytest.mark.parametrize('signed', [False, True])
def test_numbers_of_a_dicom_in_its_upper_bits(signed):
    values = C12[:, :, 0]
    stored = (values << 4).astype('<u2') if not signed else ((values.astype('i4') - 2048) << 4).astype('<i2')
    found = decode(dicom(stored, HighBit=15), pixels=Pixels(**GRAY))[:, :, 0] / 257
    np.testing.assert_allclose(found, values * (255 / 4095), atol=0.01)


@pytest.mark.parametrize('photometric', ['MONOCHROME1', 'MONOCHROME2'])
def test_what_pads_a_dicom_is_black(photometric):
    """Whatever the other numbers are, and it has no part in percentiles."""
    values = (C12[:, :, 0] // 4 + 500).astype('<i2')
    values[:8] = -2000
    elements = dict(PixelPaddingValue=-2000, RescaleSlope=2, RescaleIntercept=-1000, BitsStored=16, HighBit=15)
    data = dicom(values, PhotometricInterpretation=photometric, **elements)
    file = dcmread(io.BytesIO(data))
    assert file.PixelPaddingValue == -2000
    found = decode(data, pixels=Pixels(1, 'percentile', 16))[:, :, 0] / 257
    low, high = np.percentile(values[8:], [1, 99])
    expected = ((values[8:] - low) / (high - low)).clip(0, 1) * 255
    np.testing.assert_allclose(found[8:], expected if photometric == 'MONOCHROME2' else 255 - expected, atol=0.01)
    assert (found[:8] == 0).all()


@pytest.mark.parametrize('bands', [1, 2, 3, 4])
@pytest.mark.parametrize('dtype', ['u1', 'u2', 'f4'])
def test_header_of_jpeg_xl(bands, dtype):
    """Against what the encoder was told."""
    values = FLOATS[:, :, :1].repeat(bands, 2) if dtype == 'f4' else numbers(bands, 8 if dtype == 'u1' else 16, dtype)
    header = header_of(imagecodecs.jpegxl_encode(values.squeeze(), lossless=True))
    assert header[:4] == (48, 64, {'u1': 8, 'u2': 16, 'f4': 32}[dtype], dtype == 'f4')
    assert (header.extra, header.is_animated, header.orientation) == (int(bands in (2, 4)), False, 1)


def test_a_folder_of_jpegs_of_12_bits_is_noticed(tmp_path):
    """One of them is opened; of ordinary ones no more than that."""
    for i in range(5):
        (tmp_path / f'{i}.jpg').write_bytes(jpeg_of_12_bits(patches(1, 12)))
    assert ImageFiles(str(tmp_path), dict(type='CenterCrop', size=8), channels=1).pixels.bits == 16
    for i in range(5):
        Image.new('L', (64, 48)).save(tmp_path / f'{i}.jpg')
    assert ImageFiles(str(tmp_path), dict(type='CenterCrop', size=8), channels=1).pixels.bits == 8


def test_a_range_for_deep_images_is_none_for_those_of_fewer_bits():
    """A pair is for more than 8 bits; 4 of a JPEG 2000 keep their own white."""
    values = numbers(1, 4, 'u1')
    data = imagecodecs.jpeg2k_encode(values[:, :, 0], level=0, reversible=True, bitspersample=4)
    np.testing.assert_array_equal(decode(data, pixels=Pixels(1, (0, 4095), 8)), values * 17)
