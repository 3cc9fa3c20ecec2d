"""Output to terminals and logs: foreign text cannot control them or fake lines, and a closed pipe does not end a run.

File names, tensor names, metadata of checkpoints, config values and messages of other libraries may hold escape codes,
line breaks and marks that turn the direction of text. They are escaped where text leaves the process.
"""

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TextIO

CLEAR_LINE = '\r\x1b[K'
# The names of levels as MMEngine's console prints them: attributes, name, reset.
_LEVEL_NAME = re.compile(r'((?:\x1b\[\d{1,2}m)+(?:DEBUG|INFO|WARNING|ERROR)\x1b\[0m)')


def one_line(text: object) -> str:
    """Text in which every character that is not printable is escaped, line breaks too."""
    return _escape(str(text), '')


def indented(text: object) -> str:
    """Text of several lines, escaped, of which only the first begins at the margin: none can pass for another one's."""
    first, *more = _escape(str(text), '\n\t').split('\n')
    return '\n'.join([first, *(line if not line or line[0] in ' \t' else f'  {line}' for line in more)])


def _escape(text: str, kept: str) -> str:
    if text.isprintable():
        return text
    return ''.join(
        char if char.isprintable() or char in kept else char.encode('unicode_escape').decode() for char in text
    )


def say(*lines: object) -> None:
    """Print these lines and flush."""
    _put(_plain(sys.stdout), ''.join(f'{one_line(line)}\n' for line in lines))


def renew_line(text: object, end: str = '') -> None:
    """Replace the current line."""
    _put(_plain(sys.stdout), f'{CLEAR_LINE}{one_line(text)}{end}')


def _plain(stream: Any) -> TextIO | None:
    return stream.stream if isinstance(stream, EscapedStream) else stream


def _put(stream: TextIO | None, text: str) -> None:
    """Write and flush; a closed pipe or a full disk does not end the program."""
    if stream is None:  # closed by the parent process
        return
    encoding = getattr(stream, 'encoding', None) or 'utf-8'
    try:
        stream.write(text.encode(encoding, 'backslashreplace').decode(encoding))
        stream.flush()
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.EIO):
            _give_up(stream)


def _give_up(stream: TextIO) -> None:
    """Discard what the stream still buffers, and all that follows; otherwise Python would fail again at exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class EscapedStream:
    """A text stream that escapes what is not printable, except line breaks, tabs and MMEngine's coloured levels.

    Args:
        stream: Where the text goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write and flush, without failing on a closed pipe or a full disk."""
        parts = _LEVEL_NAME.split(text)
        _put(self.stream, ''.join(part if number % 2 else _escape(part, '\n\t') for number, part in enumerate(parts)))
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Do nothing: everything has been flushed."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def escaped_output() -> Iterator[None]:
    """Escape everything that is printed in the block, by any library, and the traceback of an error that leaves it."""
    os.environ.setdefault('PYTHON_COLORS', '0')  # of tracebacks and of help, which would be escaped
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and EscapedStream(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        sys.excepthook = _print_error


def _print_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    with escaped_output():
        sys.__excepthook__(kind, error, trace)
