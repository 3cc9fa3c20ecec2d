"""The orientation noted beside the pixels, as Pillow understands it."""

from typing import TypeVar

import numpy as np
from PIL import Image

TAG = 0x0112
METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
Picture = TypeVar('Picture', Image.Image, np.ndarray)


def orientation_of(image: Image.Image) -> int:
    """Orientation 1 to 8, from EXIF or XMP; 1 where there is none or it is invalid."""
    try:
        found = image.getexif().get(TAG, 1)
    except Exception:  # Pillow raises anything from SyntaxError to struct.error: what is not EXIF says nothing
        return 1
    return found if found in METHODS else 1


def turn(picture: Picture, orientation: int | None = None) -> Picture:
    """Turn an image, or an array (H, W, C), upright.

    Args:
        picture: As stored.
        orientation: Where it is known, needed for an array.
    """
    if isinstance(picture, np.ndarray):
        return np.ascontiguousarray(_turn_array(picture, orientation or 1))
    picture.load()  # Pillow turns some formats as they are read
    method = METHODS.get(orientation or orientation_of(picture))
    return picture if method is None else picture.transpose(method)


def _turn_array(pixels: np.ndarray, orientation: int) -> np.ndarray:
    if orientation >= 5:  # mirrored at the diagonal, then as its partner
        pixels, orientation = pixels.swapaxes(0, 1), {5: 1, 6: 2, 7: 3, 8: 4}[orientation]
    upside_down, mirrored = orientation in (3, 4), orientation in (2, 3)
    return pixels[:: -1 if upside_down else 1, :: -1 if mirrored else 1]
