"""Files of up to four bands of any depth by OpenCV, where Pillow keeps 8 bits."""

import cv2
import numpy as np

from mocox.datasets.number_ranges import fixed_range
from mocox.datasets.raw import Raw, with_bands


def read_with_opencv(data: bytes) -> Raw:
    """The numbers as stored; nothing is turned.

    Raises:
        ValueError: OpenCV does not read it.
    """
    bands = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if bands is None:
        raise ValueError('a damaged image')
    bands = with_bands(bands)
    count = bands.shape[2]
    if count >= 3:
        bands = bands[:, :, [2, 1, 0, 3][:count]]
    low, high = fixed_range(bands.dtype)
    return Raw(bands, low, high, has_alpha=count in (2, 4), is_colour=count >= 3)
