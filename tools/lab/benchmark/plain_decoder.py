"""The decoder before images of more than 8 bits were read: a fast one for JPEG, Pillow for the rest.

What the chain of readers costs 8-bit images is measured against it.
"""

import io

import cv2
import numpy as np
from PIL import Image, ImageOps

from mocox.datasets.readers import FORMATS

try:
    import simplejpeg
except ImportError:  # an extra
    simplejpeg = None


def decode_plainly(data: bytes) -> np.ndarray:
    """(H, W, 3) uint8 of an image of 8 bits."""
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if image.format == 'JPEG' and image.mode in ('RGB', 'L') and data.endswith(b'\xff\xd9'):
        if simplejpeg is not None and 'exif' not in image.info:
            return simplejpeg.decode_jpeg(data)
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    return np.array(ImageOps.exif_transpose(image).convert('RGB'))
