"""DICOM against pydicom's own arithmetic, on the files that pydicom comes with and on some made here."""

import io

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.pixels.decoders import JPEGLSLosslessDecoder
from pydicom.uid import MPEG4HP41, ExplicitVRLittleEndian, JPEGExtended12Bit

from mocox.datasets import ImageFiles, Pixels, decode
from mocox.datasets.extras import MissingExtraError
from mocox.datasets.readers import read_raw

GRAY = (
    *('CT_small.dcm', 'MR_small.dcm', 'MR_small_RLE.dcm', 'MR_small_bigendian.dcm', 'MR_small_jp2klossless.dcm'),
    *('MR_small_jpeg_ls_lossless.dcm', 'JPEG2000.dcm', 'J2K_pixelrep_mismatch.dcm', '693_J2KI.dcm', 'image_dfl.dcm'),
    *('JPEGLSNearLossless_16.dcm', 'examples_overlay.dcm', 'liver_1frame.dcm'),
)
COLOUR = ('SC_rgb_rle.dcm', 'SC_rgb_jpeg_gdcm.dcm', 'SC_ybr_full_422_uncompressed.dcm', 'SC_rgb_rle_16bit.dcm')


def bundled(name: str) -> bytes:
    with open(get_testdata_file(name, download=False), 'rb') as file:
        return file.read()


def made(values: np.ndarray, preamble: bool = True, **tags: object) -> bytes:
    """A file that holds (H, W) int16 or uint16."""
    file = pydicom.Dataset()
    file.Rows, file.Columns = values.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, 'MONOCHROME2'
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 16, 15
    file.PixelRepresentation = int(values.dtype == np.int16)
    file.PixelData = values.tobytes()
    file.SOPClassUID, file.SOPInstanceUID = '1.2.840.10008.5.1.4.1.1.7', '1.2.3'
    for name, value in tags.items():
        setattr(file, name, value)
    buffer = io.BytesIO()
    if preamble:
        file.file_meta = pydicom.dataset.FileMetaDataset()
        file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file.file_meta.MediaStorageSOPClassUID, file.file_meta.MediaStorageSOPInstanceUID = file.SOPClassUID, '1.2.3'
        pydicom.dcmwrite(buffer, file, enforce_file_format=True)
    else:
        pydicom.dcmwrite(buffer, file, implicit_vr=True, little_endian=True)
    return buffer.getvalue()


RAMP = np.arange(-1024, 3072, dtype=np.int16).reshape(64, 64)


def test_window_in_hounsfield_units():
    """PS3.3, C.11.2.1.2: a window of centre 40 and width 400 after slope 2 and intercept -100."""
    data = made(RAMP, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=40, WindowWidth=400)
    units = 2.0 * RAMP - 100
    expected = np.rint(((units - 39.5) / 399 + 0.5).clip(0, 1) * 255)
    np.testing.assert_array_equal(decode(data)[:, :, 0], expected)
    exact = made(RAMP, WindowCenter=40, WindowWidth=400, VOILUTFunction='LINEAR_EXACT')
    np.testing.assert_array_equal(decode(exact)[:, :, 0], np.rint(((RAMP + 160) / 400).clip(0, 1) * 255))
    sigmoid = made(RAMP, WindowCenter=40, WindowWidth=400, VOILUTFunction='SIGMOID')
    np.testing.assert_array_equal(decode(sigmoid)[:, :, 0], np.rint(255 / (1 + np.exp(-4 * (RAMP - 40) / 400))))
    lungs = decode(data, pixels=Pixels(value_range=(-1000, 400)))
    assert lungs.dtype == np.uint16
    np.testing.assert_array_equal(lungs[:, :, 2], np.rint(((units + 1000) / 1400).clip(0, 1) * 65535))


def test_black_is_white_in_monochrome1():
    plain, inverted = (made(RAMP, PhotometricInterpretation=f'MONOCHROME{i}') for i in (2, 1))
    np.testing.assert_array_equal(decode(inverted), 255 - decode(plain))


def test_stored_bits_are_the_range_where_there_is_no_window():
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    data = made(values, BitsStored=12, HighBit=11, RescaleSlope=2, RescaleIntercept=-1000)
    np.testing.assert_array_equal(decode(data)[:, :, 0], np.rint(values * (255 / 4095)))
    np.testing.assert_array_equal(decode(made(values, preamble=False))[:, :, 0], np.rint(values / 257))


def test_a_lookup_table_is_applied():
    item = pydicom.Dataset()
    table = np.arange(4096) ** 2 // 16384
    item.add_new('LUTDescriptor', 'SS', [4096, -1024, 10])
    item.add_new('LUTData', 'OW', table.astype('<u2').tobytes())
    data = made(RAMP, VOILUTSequence=[item])
    expected = np.rint(table.reshape(64, 64) * (255 / 1023))
    np.testing.assert_array_equal(decode(data)[:, :, 1], expected)


@pytest.mark.parametrize('name', GRAY)
def test_bundled_gray_files(name):
    """Numbers and window are pydicom's."""
    data = bundled(name)
    file = pydicom.dcmread(io.BytesIO(data), force=True)
    values = apply_modality_lut(pixel_array(file, index=0), file)
    raw = read_raw(data)
    np.testing.assert_array_equal(raw.bands[:, :, 0], values)
    found = decode(data, pixels=Pixels(depth=32))[:, :, 0] / 255
    if file.get('WindowWidth'):  # in pydicom's hands black and white become the ends of what the file can hold
        shown = apply_voi_lut(values, file)
        slope, intercept = float(file.get('RescaleSlope', 1)), float(file.get('RescaleIntercept', 0))
        signed, bits = file.PixelRepresentation, file.BitsStored
        ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        low, high = (end * slope + intercept for end in ends)
        np.testing.assert_allclose(found, (shown - low) / (high - low), atol=1e-5)


@pytest.mark.parametrize('name', COLOUR)
def test_bundled_colour_files_show_the_same_picture(name):
    """Pydicom's series of one picture in many encodings: bars of red, green, blue, ..., gray."""
    found = decode(bundled(name))
    assert found.shape == (100, 100, 3)
    colours = [found[row, 50].tolist() for row in (5, 15, 25, 35, 45, 55)]
    assert np.abs(np.subtract(colours, [[255, 0, 0], [255, 128, 128], [0, 255, 0], [128, 255, 128],
                                        [0, 0, 255], [128, 128, 255]])).max() <= 5  # fmt: skip


def test_frames_and_what_is_no_image():
    assert read_raw(bundled('SC_rgb_rle_2frame.dcm')).pages == 2
    with pytest.raises(ValueError, match='a DICOM without an image'):
        decode(bundled('rtplan.dcm'))
    with pytest.raises(ValueError, match='less than expected'):
        decode(bundled('MR_truncated.dcm'))
    with pytest.raises(ValueError, match='uint32 numbers, here from 795000 to 1.254e'):  # 32 bits of dose
        decode(bundled('rtdose.dcm'))


def made_frames(values: np.ndarray, **tags: object) -> bytes:
    """A file of (F, H, W) frames."""
    file = pydicom.dcmread(io.BytesIO(made(values[0])))
    file.NumberOfFrames, file.PixelData = len(values), values.tobytes()
    for name, value in tags.items():
        setattr(file, name, value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, file)
    return buffer.getvalue()


def write_frames(folder) -> list[float]:
    """Files of 3, 1, no and 2 frames, each of one level (after scaling); returns the levels in their order."""
    levels = np.arange(6, dtype=np.uint16) * 100 + 50
    stacks = np.broadcast_to(levels[:, None, None], (6, 16, 16)).copy()
    (folder / 'a').mkdir()
    (folder / 'a/0.dcm').write_bytes(made_frames(stacks[:3]))
    (folder / 'a/1.dcm').write_bytes(made(stacks[3]))
    (folder / 'a/2.dcm').write_bytes(b'damaged')
    (folder / 'b').mkdir()
    (folder / 'b/3.dcm').write_bytes(made_frames(stacks[4:]))
    return levels.tolist()


def test_each_frame_is_an_image_if_asked_for(tmp_path):
    levels = write_frames(tmp_path)
    setting = dict(channels=1, value_range=(0, 1000), depth=32, with_labels=True)
    crops = dict(type='RandomResizedCrops', size=4)
    positives = dict(pattern=r'(\d)\.dcm', prob=1)
    every = ImageFiles(str(tmp_path), crops, frames='all', positives=positives, **setting)
    expected = [*levels[:4], None, *levels[4:]]
    assert len(every) == 7 and every.labels.tolist() == [0] * 5 + [1] * 2
    assert [every.frame(index) for index in range(7)] == [0, 1, 2, 0, 0, 0, 1]
    group = [{0, 1, 2}, {0, 1, 2}, {0, 1, 2}, {3}, None, {5, 6}, {5, 6}]  # of the file
    for index, level in enumerate(expected):
        if level is not None:
            one, other = (float(view.mean()) for view in every[index]['inputs'])
            assert one == pytest.approx(level / 1000 * 255)
            others = group[index] - {index} or {index}
            assert round(other * 1000 / 255) in [round(expected[number]) for number in others]
    notes = [note for _, note in every.file_notes]
    assert "frames='all': 5 frames of 2 files, 7 images in all" in notes
    assert not any('further pages or frames' in note for note in notes)
    assert every.version(0) != every.version(1)
    first = ImageFiles(str(tmp_path), crops, **setting)
    assert len(first) == 4
    assert 'not used of 2 files looked at: further pages or frames than the first (3 of 5)' in [
        note for _, note in first.file_notes
    ]
    with pytest.raises(ValueError, match="frames must be 'first' or 'all', got 2"):
        ImageFiles(str(tmp_path), crops, frames=2)


def test_a_frame_of_an_enhanced_file_has_its_own_window():
    frames = np.stack([RAMP, RAMP])
    groups = []
    for centre in (0, 500):
        window = pydicom.Dataset()
        window.WindowCenter, window.WindowWidth, window.VOILUTFunction = centre, 1000, 'LINEAR_EXACT'
        group = pydicom.Dataset()
        group.FrameVOILUTSequence = [window]
        groups.append(group)
    data = made_frames(frames, PerFrameFunctionalGroupsSequence=groups)
    ranges = [(raw.low, raw.high) for raw in (read_raw(data), read_raw(data, 1))]
    assert ranges == [(-500, 500), (0, 1000)]


@pytest.mark.parametrize('name', ['JPEG-lossy.dcm', 'JPGExtended.dcm'])
def test_jpeg_of_12_bits(name):
    """Values that pydicom's tests state, of another decoder (libjpeg by T. Richter)."""
    raw = read_raw(bundled(name))
    assert raw.bands.shape == (1024, 256, 1)
    assert (raw.bands[420, 140, 0], raw.bands[230, 120, 0]) == (244, 95)
    assert (raw.low, raw.high) == (0, 4095)


def test_jpeg_of_12_bits_written_here():
    rows, columns = np.mgrid[:64, :64]
    values = (2048 + 1500 * np.sin(rows / 9) * np.cos(columns / 7)).astype(np.uint16)
    file = pydicom.dcmread(io.BytesIO(made(values, BitsStored=12, HighBit=11)))
    file.PixelData = encapsulate([imagecodecs.jpeg_encode(values, level=98, bitspersample=12)])
    file.file_meta.TransferSyntaxUID = JPEGExtended12Bit
    file['PixelData'].is_undefined_length = True
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, file)
    assert np.abs(read_raw(buffer.getvalue()).bands[:, :, 0] - values.astype(int)).max() <= 8


def test_a_missing_decoder_is_named(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'imagecodecs', None)
    with pytest.raises(MissingExtraError, match=r'JPEG of 12 bits needs imagecodecs.*pip install "mocox\[dicom\]"'):
        read_raw(bundled('JPEG-lossy.dcm'))
    monkeypatch.setattr(JPEGLSLosslessDecoder, '_available', {})
    with pytest.raises(MissingExtraError, match=r'DICOM with JPEG-LS Lossless.*pip install "mocox\[dicom\]"'):
        read_raw(bundled('MR_small_jpeg_ls_lossless.dcm'))
    file = pydicom.dcmread(io.BytesIO(bundled('JPEG-lossy.dcm')))
    file.file_meta.TransferSyntaxUID = MPEG4HP41
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, file)
    with pytest.raises(ValueError, match='a DICOM with MPEG-4 .*which nothing here decodes: convert it'):
        read_raw(buffer.getvalue())


def test_a_missing_extra_is_named(monkeypatch):
    data = made(RAMP)
    monkeypatch.setitem(__import__('sys').modules, 'pydicom', None)
    with pytest.raises(ImportError, match=r'DICOM files need pydicom.*pip install "mocox\[dicom\]"'):
        decode(data)
