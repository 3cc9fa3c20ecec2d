"""A sample of a data set's files, each read once and shared by all that inspect them."""

import hashlib
import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from PIL import Image

from mocox.datasets.deep_jpeg import is_deep_jpeg
from mocox.datasets.raw import Raw
from mocox.datasets.readers import PNG, read_raw
from mocox.datasets.subset import spread
from mocox.datasets.tiff import is_scientific

if TYPE_CHECKING:
    from mocox.datasets.encoded_images import EncodedImages

MAX_KEPT = 2**22  # bytes of the numbers of one image; of a larger one every second, third, ... row and column


@dataclass(frozen=True)
class Seen:
    """The inspected content of one image.

    Args:
        raw: Its numbers, thinned out where they are many; None where it cannot be read.
        error: Why.
        size: Height and width of the whole.
        mode: Pillow's, or ``other``.
        is_ordinary: See :func:`is_ordinary`.
        num_bytes: Size of the file.
        digest: Digest of the file.
    """

    raw: Raw | None
    error: str = ''
    size: tuple[int, int] = (0, 0)
    mode: str = ''
    is_ordinary: bool = False
    num_bytes: int = 0
    digest: bytes = b''


def see(images: 'EncodedImages', row: int) -> Seen:
    """Read one image, as it is stored."""
    try:
        data = images.read_bytes(row)
        raw = read_raw(data, images.frame(row))
    except Exception as error:  # Pillow's plugins raise anything; what comes of it is for others to say
        return Seen(None, str(error).splitlines()[0] if str(error) else type(error).__name__)
    step = math.ceil(math.sqrt(max(raw.bands.nbytes / MAX_KEPT, 1)))
    thin = raw if step == 1 else raw._replace(bands=raw.bands[::step, ::step].copy())
    digest = hashlib.sha256(data).digest()
    return Seen(thin, '', raw.bands.shape[:2], _mode(data), is_ordinary(data), len(data), digest)


def is_ordinary(data: bytes) -> bool:
    """True for a JPEG or PNG of 8 bits without alpha, which needs no further check."""
    return (data.startswith(b'\xff\xd8') and not is_deep_jpeg(data)) or (
        data.startswith(PNG) and data[24] <= 8 and data[25] in (0, 2, 3)
    )


def _mode(data: bytes) -> str:
    if is_scientific(data):  # Pillow logs an error of its own for some
        return 'other'
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.mode
    except Exception:  # others read some that Pillow does not
        return 'other'


@dataclass
class Survey:
    """Images of a data set, evenly spread, that stay in memory.

    Args:
        num: Number of images, at most.
        seen: By row.
    """

    num: int
    seen: dict[int, Seen] = field(default_factory=dict)

    def look(self, images: 'EncodedImages') -> dict[int, Seen]:
        """The sampled images of a data set, which must be that of the first call, however it is read."""
        for row in spread(len(images), self.num):
            if row not in self.seen:
                self.seen[row] = see(images, row)
        return self.seen

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Share the sample with all data sets that are built in the block, which then read no image for it."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)


_CURRENT: ContextVar[Survey | None] = ContextVar('survey', default=None)


def current_survey() -> Survey | None:
    """The one that is shared, if any."""
    return _CURRENT.get()
