"""Netpbm files that Pillow rescales, truncates or does not support: more than 8 bits, PAM, floating point."""

import re

import numpy as np

from mocox.datasets.raw import Raw, check_size

GAP = rb'(?:\s+|#[^\n]*\n)+'
PNM = re.compile(rb'P([2356])' + GAP + rb'(\d+)' + GAP + rb'(\d+)' + GAP + rb'(\d+)\s')
PFM = re.compile(rb'P([Ff])\s+(\d+)\s+(\d+)\s+(-?[\d.]+(?:[eE][-+]?\d+)?)\s')
PAM = re.compile(rb'P7\n(?:[^\n]*\n)*?ENDHDR\n')
PAM_LINE = re.compile(rb'^(WIDTH|HEIGHT|DEPTH|MAXVAL|TUPLTYPE)\s+(\S+)', re.MULTILINE)
HEADER_BYTES = 4096


def is_netpbm(data: bytes) -> bool:
    """PGM and PPM of more than 8 bits, as text or not; PAM; PFM."""
    if data.startswith((b'P7\n', b'PF', b'Pf')):
        head = data[:HEADER_BYTES]
        return bool(PAM.match(head) or PFM.match(head))
    found = PNM.match(data[:HEADER_BYTES])
    return found is not None and 255 < int(found[4]) < 65536


def read_netpbm(data: bytes) -> Raw:
    """Numbers behind a header.

    Raises:
        ValueError: It ends too early, or its header lacks something.
    """
    width, height, count, white, is_text, dtype, start = _header(data[:HEADER_BYTES])
    check_size(height, width, count * dtype.itemsize)
    num, content = height * width * count, data[start:]
    if is_text:
        values = np.array(re.sub(rb'#[^\n]*', b'', content).split()[:num], dtype='S6').astype(dtype)
    else:
        values = np.frombuffer(content[: len(content) // dtype.itemsize * dtype.itemsize], dtype)
    if len(values) < num:
        raise ValueError('a truncated PNM')
    bands = values[:num].reshape(height, width, count).astype(dtype.newbyteorder('='))
    if dtype.kind == 'f':  # its rows go upwards
        return Raw(np.ascontiguousarray(bands[::-1]), None, None, is_colour=count == 3)
    return Raw(bands, 0, white, has_alpha=count in (2, 4), is_colour=count in (3, 4))


def _header(head: bytes) -> tuple[int, int, int, int, bool, np.dtype, int]:
    """Width, height, bands, the number that is white, whether text follows, type and place of the numbers."""
    if found := PNM.match(head):
        kind, width, height, white = (int(number) for number in found.groups())
        return width, height, 3 if kind in (3, 6) else 1, white, kind < 4, np.dtype('>u2'), found.end()
    if found := PFM.match(head):
        order = '<' if float(found[4]) < 0 else '>'
        return int(found[2]), int(found[3]), 3 if found[1] == b'F' else 1, 0, False, np.dtype(f'{order}f4'), found.end()
    found = PAM.match(head)
    words = dict(PAM_LINE.findall(found[0])) if found else {}
    width, height, count, white = (int(words.get(name, 0)) for name in (b'WIDTH', b'HEIGHT', b'DEPTH', b'MAXVAL'))
    if found is None or not (width and height and count and 0 < white < 65536):
        raise ValueError('a PAM without WIDTH, HEIGHT, DEPTH or a MAXVAL from 1 to 65535')
    return width, height, count, white, False, np.dtype('>u2' if white > 255 else 'u1'), found.end()
