"""Files at the edge of what is read: rare ones that must give the right pixels, others that must be refused by name."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from mocox.datasets import ImageFiles, decode

FILES = Path(__file__).parents[1] / 'data' / 'images'
CROPS = dict(type='RandomResizedCrops', size=8)


@pytest.mark.parametrize('name', ['jpg_arithmetic', 'jpg_arithmetic_progressive'])
@pytest.mark.parametrize('factor', [1, 2])
def test_arithmetic_coding(name, factor):
    """The same coefficients as in the Huffman file, as Debian's jpegtran 2.1.5 wrote them: the same pixels."""
    found, truth = (
        decode((FILES / f'{file}.jpg').read_bytes(), lambda height, width: factor) for file in (name, 'jpg_huffman')
    )
    assert found.shape == (16 // factor, 16 // factor, 3) and truth.std() > 50
    np.testing.assert_array_equal(found, truth)


def test_arithmetic_coding_is_handed_to_pillow_in_one_piece(monkeypatch):
    """Its decoder cannot wait for more: Pillow would call a whole file of more than a block damaged."""
    monkeypatch.setattr('PIL.ImageFile.MAXBLOCK', 225)
    found, truth = (decode((FILES / f'jpg_{name}.jpg').read_bytes() + b'\0') for name in ('arithmetic', 'huffman'))
    np.testing.assert_array_equal(found, truth)


def test_a_truncated_file_of_arithmetic_coding_is_damaged():
    data = (FILES / 'jpg_arithmetic.jpg').read_bytes()
    with pytest.raises(OSError, match='broken data stream'):
        decode(data[:-12])


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        (b'v/1\x01\x02\0\0\0channels\0chlist\0', 'OpenEXR, not an image that mocox reads: convert it to a TIFF'),
        (b'#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n', 'Radiance HDR.*TIFF of 32 bits'),
        (b'8BPS\0\1\0\0', 'a Photoshop file.*PNG or TIFF'),
        (b'%PDF-1.7\n', 'PDF.*render'),
        (b'%!PS-Adobe-3.0 EPSF-3.0\n', 'PostScript.*render'),
        (b'<?xml version="1.0"?>\n<svg xmlns="">', 'SVG.*render'),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- ' + b'x' * 99 + b' -->\n<svg>', 'SVG.*render'),
        (b'\0\0\0\x18ftypcrx \0\0\0\1', 'camera raw.*develop'),
        (b'II*\0\x10\0\0\0CR\x02\0' + bytes(99), 'camera raw.*preview.*develop'),
        (b'\0\0\0\x20ftypisom\0\0\2\0', 'a video.*ffmpeg'),
        (b'\0\0\0\x1cftyp3gp4\0\0\2\0', 'a video.*ffmpeg'),
        (b'RIFF\xff\0\0\0AVI LIST', 'a video.*ffmpeg'),
        (b'SIMPLE  =                    T', 'FITS.*npy'),
        (b'\x89HDF\r\n\x1a\n', 'HDF5.*npy'),
        (b'PK\x03\x04\x14\0', 'an archive.*unpack'),
        (b'\n<!DOCTYPE html>\n<html>', 'HTML.*download the image again'),
        (b'<!-- saved from -->\n<html>', 'HTML.*download the image again'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:', 'Git LFS.*git lfs pull'),
        (b'<?xml version="1.0"?><note>', 'not an image of a format that mocox reads'),
        (b'hello', 'not an image of a format that mocox reads'),
    ],
)
def test_what_is_not_read_is_named_with_the_cure(data, message):
    """Whatever the ending: a file is what its first bytes say."""
    with pytest.raises(ValueError, match=message):
        decode(data)


def test_the_preview_of_a_camera_raw_is_not_taken_for_the_image():
    """As a DNG begins: its first page is small and colourful, the sensor's numbers lie in a sub-directory."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(np.full((12, 16, 3), 9, np.uint8), photometric='rgb', subifds=1, subfiletype=1)
        pattern = [(33421, 'H', 2, (2, 2)), (33422, 'B', 4, b'\0\1\1\2')]
        writer.write(np.ones((48, 64), np.uint16), photometric='cfa', extratags=pattern)
    with pytest.raises(ValueError, match='a TIFF of a colour filter array of 16 bits: convert it'):
        decode(file.getvalue())


def test_pixels_that_read_as_the_mark_of_a_raw_are_an_image():
    """The pixels that libtiff writes behind the header, where a raw of Canon says what it is."""
    image = np.full((8, 8, 3), tuple(b'CR\x02'), np.uint8)
    written, file = cv2.imencode('.tif', image[:, :, ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    assert written and file.tobytes()[8:11] == b'CR\x02'
    np.testing.assert_array_equal(decode(file.tobytes()), image)


def test_a_folder_of_such_files_says_what_to_do(tmp_path):
    for name in ('1.EXR', '2.exr', '3.nef', 'notes.txt'):
        (tmp_path / name).touch()
    message = r'left out by ending: .exr 2, .*\.exr: convert it to a TIFF .*; \.nef: develop it .*; pass --data-root'
    with pytest.raises(ValueError, match=message):
        ImageFiles(str(tmp_path), CROPS)


def test_a_folder_of_tar_shards_names_their_recipe(tmp_path):
    (tmp_path / 'train-0000.tar').touch()
    with pytest.raises(ValueError, match=r'\.tar: unpack it, or train on tar shards with .*vit-small_webdataset\.py'):
        ImageFiles(str(tmp_path), CROPS)
