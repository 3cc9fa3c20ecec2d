"""The parsers of scientific and medical files: small ones of every kind, mutated. Pixels, or an error of ours."""

import io
import logging
import warnings
import zipfile

import imagecodecs
import numpy as np
import pillow_heif
import pydicom
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mocox.datasets import Pixels, decode
from mocox.datasets.extras import MissingExtraError
from mocox.datasets.readers import needs_own_reader, read_raw
from tests.test_fuzz.cases import MAX_GROWTH_MB, fuzz, mutations, peak_mb

LEVELS = np.random.default_rng(0).integers(0, 60_000, (8, 12, 3), dtype=np.uint16)
GRAY = LEVELS[:, :, 0]


def tiff(values: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def tiffs() -> dict[str, bytes]:
    sizes = 'DimensionOrder="XYCZT" Type="uint16" SizeX="12" SizeY="8" SizeC="2" SizeZ="1" SizeT="1"'
    ome = f'<OME><Image ID="Image:0"><Pixels ID="P" {sizes}><TiffData/></Pixels></Image></OME>'
    stack = np.stack([GRAY] * 2)
    return dict(
        deep=tiff(LEVELS),
        planar=tiff(LEVELS.transpose(2, 0, 1), planarconfig='separate', photometric='rgb'),
        bands=tiff(np.stack([GRAY] * 5, axis=2), planarconfig='contig', photometric='minisblack'),
        float=tiff(GRAY.astype(np.float32), compression='zlib', predictor=True),
        lzw=tiff(GRAY.astype(np.int16), compression='lzw', tile=(16, 16)),
        big=tiff(GRAY, bigtiff=True, byteorder='>'),
        ome=tiff(stack, description=ome, metadata=None, photometric='minisblack'),
        imagej=tiff(stack, imagej=True, metadata={'axes': 'CYX'}),
        shaped=tiff(np.stack([stack] * 2).astype(np.float32)),
    )


def dicom(syntax: str, content: bytes, bits: int = 16) -> bytes:
    """A file with a window and a slope, as scanners write it."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = f'1.2.840.10008.1.2{syntax}'
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = '1.2.840.10008.5.1.4.1.1.2', '1.2.3'
    file = pydicom.dataset.FileDataset('', {}, file_meta=meta, preamble=bytes(128))
    file.Rows, file.Columns = GRAY.shape
    file.BitsAllocated = file.BitsStored = bits
    file.HighBit, file.PixelRepresentation, file.SamplesPerPixel = bits - 1, 0, 1
    file.PhotometricInterpretation = 'MONOCHROME2'
    file.WindowCenter, file.WindowWidth, file.RescaleSlope, file.RescaleIntercept = '40', '400', '1', '-1024'
    file.PixelData = pydicom.encaps.encapsulate([content]) if syntax.startswith('.4') else content
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, file)
    return buffer.getvalue()


def dicoms() -> dict[str, bytes]:
    jpeg = io.BytesIO()
    Image.fromarray((GRAY >> 8).astype(np.uint8)).save(jpeg, 'JPEG')
    plain = dicom('.1', GRAY.tobytes())
    return dict(
        dicom=plain,
        without_preamble=b'\2\0\0\0UL\4\0' + int.to_bytes(plain.index(b'\x28\0') - 132, 4, 'little') + plain[132:],
        implicit=dicom('', GRAY.tobytes()),
        deflated=dicom('.1.99', GRAY.tobytes()),
        dicom_jpeg=dicom('.4.50', jpeg.getvalue(), bits=8),
        dicom_jpeg2000=dicom('.4.90', imagecodecs.jpeg2k_encode(GRAY, codecformat='j2k', reversible=True)),
    )


def others() -> dict[str, bytes]:
    npy, npz, heif, png = (io.BytesIO() for _ in range(4))
    np.save(npy, LEVELS)
    with zipfile.ZipFile(npz, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a.npy', npy.getvalue())
    pillow_heif.from_pillow(Image.fromarray((LEVELS >> 8).astype(np.uint8))).save(heif)
    Image.fromarray((LEVELS >> 8).astype(np.uint8)).save(png, 'PNG')
    return dict(
        npy=npy.getvalue(),
        npz=npz.getvalue(),
        heif=heif.getvalue(),
        deep_png=imagecodecs.png_encode(LEVELS),
        deep_jp2=imagecodecs.jpeg2k_encode(LEVELS, codecformat='jp2'),
        jxl=imagecodecs.jpegxl_encode((LEVELS >> 8).astype(np.uint8)),
        pnm=b'P6\n12 8\n65535\n' + LEVELS.astype('>u2').tobytes(),
    )


SEEDS = {**tiffs(), **dicoms(), **others()}
SETTINGS = st.sampled_from([Pixels(), Pixels(channels=1), Pixels(channels=[0], value_range=(0, 4095), depth=16)])


@fuzz(400)
@given(mutations(SEEDS), SETTINGS)
def try_to_decode(data: bytes, pixels: Pixels) -> None:
    try:
        image = decode(data, pixels=pixels)
    except (ValueError, OSError, MissingExtraError, Image.DecompressionBombError):
        return
    assert image.shape[2] == pixels.num_channels
    assert image.size <= 10**6


def test_mutated_files():
    logging.getLogger('tifffile').setLevel(logging.CRITICAL)
    before = peak_mb()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try_to_decode()
    assert peak_mb() - before < MAX_GROWTH_MB


@pytest.mark.parametrize('name', SEEDS)
def test_every_seed_is_an_image_of_its_kind(name):
    """Else the mutations would try nothing."""
    assert read_raw(SEEDS[name]).bands.size
    assert needs_own_reader(SEEDS[name])
