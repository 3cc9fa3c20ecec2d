"""Small files that ask for minutes or for all memory: refused by their headers, with the number and the cure."""

import io
import struct
import tarfile
import zlib

import imagecodecs
import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image

from mocox.datasets import Pixels, decode, limits
from mocox.datasets.dicom import _plugin
from mocox.datasets.jpeg_xl import header_of
from mocox.datasets.readers import read_raw
from mocox.datasets.tar_index import index_shard
from tests.test_datasets import bombs


def encode(image: Image.Image, file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8))


@pytest.mark.parametrize('mode', ['RGB', 'L', 'CMYK'])
def test_a_progressive_jpeg_has_a_hundred_scans_at_most(mode):
    """The last scan says the same again and again: all scans of ordinary files stay below."""
    data = encode(PHOTO.convert(mode), 'JPEG', progressive=True)
    own = data.count(b'\xff\xda')
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert('RGB')))
    limits.check_jpeg(bombs.repeat_scan(data, 100 - own))
    for pixels in (Pixels(), Pixels(channels=1)):
        with pytest.raises(ValueError, match='a JPEG of more than 100 scans: write it again'):
            decode(bombs.repeat_scan(data, 101 - own), pixels=pixels)


def test_bands_one_after_the_other_are_scans_too():
    data = bombs.one_band_each()
    limits.check_jpeg(data)
    with pytest.raises(ValueError, match='100 scans'):
        decode(bombs.repeat_scan(data, 98))


def test_what_is_no_scan_does_not_count():
    """Thumbnails and profiles before the image, a film behind it, fill bytes."""
    data = encode(PHOTO, 'JPEG', progressive=True)
    profile = b'\xff\xe2' + struct.pack('>H', 402) + b'\xff\xda' * 200
    for strange in (data[:2] + profile + data[2:], data + b'\xff\xda\0\2' * 200, data[:2] + b'\xff' * 9 + data[2:]):
        limits.check_jpeg(strange)
        np.testing.assert_array_equal(decode(strange), np.asarray(Image.open(io.BytesIO(data))))
    for broken in (b'', b'\xff\xd8', b'\xff\xd8\xff', data[:300], b'\xff\xd8\xff\xe0\0\0' * 50):
        limits.check_jpeg(broken)


def test_segments_of_a_jpeg():
    data = encode(PHOTO, 'JPEG')
    assert decode(data[:2] + b'\xff\xfe\0\2' * 1000 + data[2:]).shape == (24, 16, 3)
    with pytest.raises(ValueError, match='a JPEG of more than 10000 segments'):
        decode(data[:2] + b'\xff\xfe\0\2' * 10_000 + data[2:])


def test_a_png_of_a_great_many_chunks():
    data = encode(PHOTO, 'PNG')
    for kind in (b'tEXt', b'zzZz', b'IDAT'):
        with pytest.raises(ValueError, match='a PNG of more than 10000 chunks in'):
            decode(bombs.png_with(data, kind, b'a\0b', 10_000))
    assert decode(bombs.png_with(data, b'zzZz', b'a\0b', 9_990)).shape == (24, 16, 3)


@pytest.mark.parametrize('kind', [b'zTXt', b'iTXt', b'iCCP'])
def test_a_remark_that_unpacks_to_a_gigabyte_is_left_out(kind):
    """By Pillow, which stops at 64 MB; the pixels count."""
    data = encode(PHOTO, 'PNG')
    packed = zlib.compress(bytes(2**26 + 1), 1)
    body = {b'zTXt': b'a\0\0', b'iTXt': b'a\0\1\0\0\0', b'iCCP': b'a\0\0'}[kind] + packed
    np.testing.assert_array_equal(decode(bombs.png_with(data, kind, body, 1)), np.asarray(PHOTO))


def test_a_gif_with_blocks_before_its_picture():
    data = encode(PHOTO.convert('P'), 'GIF')
    start = 13 + (3 << (data[10] & 7) + 1)
    np.testing.assert_array_equal(
        decode(data[:start] + b'!\xfe\1a\0' * 1000 + data[start:]), np.asarray(PHOTO.convert('P').convert('RGB'))
    )
    with pytest.raises(ValueError, match='a GIF with more than 250000 blocks before its first picture'):
        decode(data[:start] + b'!\xfe\1a\0' * 130_000 + data[start:])


@pytest.mark.parametrize('big', [False, True])
@pytest.mark.parametrize('bits', [8, 16])
def test_strips_of_a_tiff(bits, big):
    with pytest.raises(ValueError, match='a TIFF of 250001 strips or tiles, of which its 1 x 250001 pixels'):
        decode(bombs.tiff_strips(1, 250_001, 250_001, bits, big))
    with pytest.raises(ValueError, match='a TIFF of 17 strips or tiles, of which its 1 x 16 pixels can have 16'):
        decode(bombs.tiff_strips(1, 16, 17, bits, big))
    pixels = Pixels(channels=1, value_range='dtype', depth=bits)
    found = decode(bombs.tiff_strips(1, 16, 16, bits, big), pixels=pixels)
    assert found[:, :, 0].tolist() == [[7]] * 16


def test_pages_of_a_tiff():
    assert decode(bombs.tiff_pages(300))[0, 0].tolist() == [7, 7, 7]
    with pytest.raises(ValueError, match='a TIFF of more than 10000 pages: write a file for each'):
        decode(bombs.tiff_pages(10_001))
    loop = bytearray(bombs.tiff_pages(2))
    loop[-8:-4] = struct.pack('<I', 8)
    assert decode(bytes(loop)).shape == (2, 2, 3)


def test_samples_of_a_tiff():
    """179 million pixels of 500 kB each, with 4 bytes of file for them."""
    with pytest.raises(Image.DecompressionBombError, match='more than the 4294967296 bytes .* cut it into tiles'):
        decode(bombs.tiff_samples(), pixels=Pixels(channels=[0], value_range='dtype'))


@pytest.mark.parametrize('sizes', ['SizeC="1000" SizeZ="1001" SizeT=\'1\'', 'SizeT = "&#57;9999999"'])
def test_planes_that_an_ome_file_claims(sizes):
    pixels = f'<Pixels DimensionOrder="XYCZT" Type="uint16" SizeX="8" SizeY="8" {sizes} />'
    xml = f'<OME><Image ID="Image:0">{pixels}</Image></OME>'
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((2, 8, 8), np.uint16), description=xml, metadata=None, photometric='minisblack')
    with pytest.raises(ValueError, match='an OME-TIFF of 1001000 planes|invalid literal for int'):
        decode(buffer.getvalue())


def dicom(deflated: bool = False, extra: bytes = b'') -> bytes:
    """One of 4 x 4 pixels, numbered."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian if deflated else '1.2.840.10008.1.2.1'
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = '1.2.840.10008.5.1.4.1.1.2', '1.2.3'
    file = pydicom.dataset.FileDataset('', {}, file_meta=meta, preamble=bytes(128))
    file.Rows = file.Columns = 4
    file.BitsAllocated = file.BitsStored = 16
    file.HighBit, file.PixelRepresentation, file.SamplesPerPixel = 15, 0, 1
    file.PhotometricInterpretation = 'MONOCHROME2'
    file.PixelData = np.arange(16, dtype='<u2').tobytes()
    if extra:
        file.add_new(0x00091010, 'OB', extra)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, file)
    return buffer.getvalue()


def test_a_deflated_dicom_is_unpacked_within_limits(monkeypatch):
    np.testing.assert_array_equal(read_raw(dicom(deflated=True)).bands[:, :, 0], np.arange(16).reshape(4, 4))
    monkeypatch.setattr('mocox.datasets.dicom.MAX_INFLATED', 2**20)
    with pytest.raises(ValueError, match='a deflated DICOM of more than 1048576 bytes'):
        decode(dicom(deflated=True, extra=bytes(2**20)))
    with pytest.raises(ValueError, match='a deflated DICOM without a preamble'):
        decode(b'\2\0\0\0UL\4\0' + struct.pack('<I', 66) + dicom(deflated=True)[132:])


def test_elements_of_a_dicom(monkeypatch):
    """In a row, and nested; items of a sequence are left alone until somebody asks for them."""
    monkeypatch.setattr(limits, 'MAX_READS', 2000)
    data = dicom()
    at = data.index(struct.pack('<HH', 0x28, 2))
    item = bytes.fromhex('feff00e000000000')
    opened = bytes.fromhex('08004011 5351 0000 ffffffff feff00e0ffffffff')
    closed = bytes.fromhex('feff0de000000000 feffdde000000000')
    sequence = struct.pack('<HH', 8, 0x1140) + b'SQ\0\0' + struct.pack('<I', 8 * 2000) + item * 2000
    row = b''.join(struct.pack('<HH2sH', 9, k, b'LO', 2) + b'a ' for k in range(0x1000, 0x1000 + 1000))
    with pytest.raises(ValueError, match='more than 1000 elements'):
        decode(data[:at] + row + data[at:])
    with pytest.raises(ValueError, match='RecursionError|elements'):
        decode(data[:at] + opened * 2000 + closed * 2000 + data[at:])
    assert decode(data[:at] + sequence + data[at:]).shape == (4, 4, 3)
    assert decode(data[:at] + row[: len(row) // 2] + data[at:]).shape == (4, 4, 3)


def test_gdcm_is_asked_only_for_what_no_other_library_reads():
    """It ends the process at some damaged files."""
    file = pydicom.dcmread(io.BytesIO(dicom()))
    asked = []
    for syntax in ('.1', '.4.50', '.4.70', '.4.90', '.5'):
        file.file_meta.TransferSyntaxUID = f'1.2.840.10008.1.2{syntax}'
        asked.append(_plugin(file))
    assert asked == ['', 'pillow', '', 'pylibjpeg', 'pydicom']


def test_an_array_that_is_not_there():
    for shape in ('(100000, 100000)', '(9, 9, 9999999999)'):
        head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
        for version, size in ((b'\1\0', struct.pack('<H', len(head))), (b'\2\0', struct.pack('<I', len(head)))):
            with pytest.raises(ValueError, match='a truncated array: float32'):
                decode(b'\x93NUMPY' + version + size + head + bytes(64))


def test_an_array_is_measured_before_it_is_unpacked(monkeypatch):
    packed = io.BytesIO()
    np.savez_compressed(packed, np.zeros((400, 300, 2), np.uint8))
    assert read_raw(packed.getvalue()).bands.shape == (400, 300, 2)
    monkeypatch.setattr('zipfile.ZipFile.read', None)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 59_999)
    with pytest.raises(Image.DecompressionBombError, match='more than 119998'):
        decode(packed.getvalue(), pixels=Pixels(channels=2))


def test_tags_of_a_tiff():
    entries = [(1000 + number, 1, 0) for number in range(4097)]
    with pytest.raises(ValueError, match='a TIFF of 4097 tags, more than the 4096'):
        decode(bombs.tiff_of(entries))


@pytest.mark.parametrize('size', [(8, 8), (256, 256), (7, 5), (300, 400), (5, 1000), (96, 54), (1, 9000)])
def test_the_size_of_a_jpeg_xl_is_told_before_it_is_decoded(size, monkeypatch):
    data = imagecodecs.jpegxl_encode(np.zeros((*size, 3), np.uint8))
    assert header_of(data)[:2] == size
    boxed = b'\0\0\0\x0cJXL \r\n\x87\n' + b'\0\0\0\x14ftypjxl \0\0\0\0jxl ' + struct.pack('>I', len(data) + 8) + b'jxlc'
    assert header_of(boxed + data)[:2] == size
    assert decode(boxed + data).shape == (*size, 3)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', size[0] * size[1] // 2 - 1)
    with pytest.raises(Image.DecompressionBombError):
        decode(data)


def archive_of(keys: dict[str, str], members: int = 2) -> io.BytesIO:
    shard = io.BytesIO()
    with tarfile.open(fileobj=shard, mode='w', format=tarfile.PAX_FORMAT, pax_headers=keys) as archive:
        for number in range(members):
            archive.addfile(tarfile.TarInfo(f'{number}.png'), io.BytesIO(b''))
    return shard


def test_the_global_header_of_a_tar_is_short():
    """It counts for every member: many keys take time, and a long ``path`` takes memory, times the members."""
    shard = archive_of({'comment': 'x' * 40})
    assert len(index_shard(shard, 'a.tar', len(shard.getvalue())).names) == 2
    for keys in ({f'k{number}': '1' for number in range(2000)}, {'path': 'x' * 5000 + '.png'}):
        shard = archive_of(keys)
        with pytest.raises(ValueError, match=r"'a.tar' is not a tar.*damaged \(a global header of \d+ char"):
            index_shard(shard, 'a.tar', len(shard.getvalue()))
