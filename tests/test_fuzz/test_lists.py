"""The parser of list files: arbitrary bytes."""

import os

from hypothesis import example, given
from hypothesis import strategies as st

from mocox.datasets.lists import parse_list
from tests.test_fuzz.cases import fuzz

PARTS = [b'a.png', b' 1', b',', b'\t', b'\r', b'\n', b'\0', b'\xff', b'\xef\xbb\xbf', b'9' * 20, 'ä٣'.encode()]
LINES = st.lists(st.sampled_from(PARTS) | st.binary(max_size=5), max_size=30).map(b''.join)


@fuzz(500)
@given(st.binary(max_size=300) | LINES)
@example(b'a 1' + b'0' * 5000)  # int() refuses that many digits
@example(b'a ' * 30_000)
def test_arbitrary_bytes(tmp_path_factory, data):
    """Paths and as many labels, or a ValueError."""
    file = tmp_path_factory.getbasetemp() / 'list.txt'
    file.write_bytes(data)
    try:
        paths, labels = parse_list(str(file))
    except ValueError as error:
        assert str(file) in str(error)
        return
    assert len(paths) > 0
    assert labels is None or len(labels) == len(paths)
    for path in paths:
        os.fsdecode(path).encode(errors='surrogateescape')
        assert path.strip() == path != b''
