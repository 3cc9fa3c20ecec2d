"""Files that mocox does not read but people have: each kind is named, by content or by ending, with what to do."""

import re
from collections.abc import Iterable
from typing import NamedTuple

HEAD = 1024  # bytes that are looked at: a comment may stand before the first element of SVG or HTML
BOM = rb'(\xef\xbb\xbf)?\s*'


class Unsupported(NamedTuple):
    """A kind of file that is not read.

    Args:
        name: The kind, in words.
        cure: What turns such files into images.
        endings: In small letters; those of files that are seldom images are not among them.
        signature: Of the first bytes.
    """

    name: str
    cure: str
    endings: tuple[str, ...]
    signature: re.Pattern[bytes]


def _kind(name: str, cure: str, endings: str, signature: bytes) -> Unsupported:
    return Unsupported(name, cure, tuple(endings.split()), re.compile(signature, re.IGNORECASE | re.DOTALL))


KINDS = (
    _kind('OpenEXR', 'convert it to a TIFF of 32 bits or to .npy', '.exr', rb'v/1\x01'),
    _kind('Radiance HDR', 'convert it to a TIFF of 32 bits or to .npy', '', rb'#\?(radiance|rgbe)'),
    _kind('a Photoshop file', 'export it as PNG or TIFF', '.psd .psb', rb'8bps'),
    _kind(
        'a PDF, PostScript or SVG',
        'render it to PNG',
        '.pdf .eps .ps .svg',
        rb'%pdf|%!ps|\xc5\xd0\xd3\xc6|' + BOM + rb'(<(\?xml|!--|!doctype svg).*)?<svg',
    ),
    _kind(
        'a camera raw',
        'develop it to TIFF or JPEG',
        '.cr2 .cr3 .nef .arw .dng .raf .orf .rw2',
        rb'....ftypcrx|fujifilmccd-raw|IIR[OS]|MMOR|IIU\0',
    ),
    _kind(
        'a video',
        'write its frames as images: ffmpeg -i VIDEO FOLDER/%06d.jpg',
        '.mp4 .mov .avi .mkv .webm .mpg',
        rb'....ftyp(iso|mp4|qt|m4v|avc1|msnv|3g|dash)|riff....avi |\x1a\x45\xdf\xa3|\0\0\x01\xba',
    ),
    _kind('FITS or HDF5', 'write each image as .npy', '.fits .fit .h5 .hdf5 .nii .nc', rb'SIMPLE  =|\x89HDF\r\n'),
    _kind(
        'an archive',
        'unpack it, or train on tar shards with a recipe such as mocov3/vit-small_webdataset.py',
        '.zip .gz .tar .tgz .7z .rar .zst',
        rb'PK\x03\x04|\x1f\x8b|7z\xbc\xaf|rar!|\x28\xb5\x2f\xfd',
    ),
    _kind('a pointer of Git LFS', 'fetch the image: git lfs pull', '', rb'version https://git-lfs'),
    _kind('a page of HTML', 'download the image again', '', BOM + rb'(<(\?xml|!--).*)?<(!doctype )?html'),
)


def describe_unsupported(data: bytes) -> str:
    """Name the kind of a file and what to do; if it is unknown, say only that the file is not an image."""
    if not data:
        return 'the file is empty'
    kind = next((kind for kind in KINDS if kind.signature.match(data[:HEAD])), None)
    if kind is None:
        return 'not an image of a format that mocox reads'
    return f'{kind.name}, not an image that mocox reads: {kind.cure}'


def cures_by_ending(endings: Iterable[str]) -> list[str]:
    """A clause for each kind among files that were left out."""
    found = set(endings)
    return [f'{" ".join(own)}: {kind.cure}' for kind in KINDS if (own := sorted(found.intersection(kind.endings)))]
