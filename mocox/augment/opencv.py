"""The photometric half of the augmentations, image by image with OpenCV, in the workers that load the data.

For machines without a GPU, where this is faster than any batched form. The picture is that of
:func:`mocox.augment.batched.augment` on the same parameters, rounded to whole levels: colours are computed in
float32, only blur and solarisation start from rounded levels. Images of more than 8 bits, and views with operations of
:mod:`mocox.augment.domain`, are rounded once, at the end.
"""

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from mocox.augment.domain import LAWS, draw_numbers
from mocox.augment.kernels import blur_weights, kernel_radius
from mocox.augment.recipe import LUMA, MAX_LEVEL, PILLOW_LUMA, Parameters, View, blur_radius, sample_parameters

# The part of a channel that saturation and grayscale replace: each becomes the luma. (3, 3)
TO_LUMA = np.tile(np.array(LUMA, np.float32), (3, 1))
WHOLE_LUMA = np.array([[*PILLOW_LUMA, 0.5]], np.float32)  # half a level rounds
WHITE_8, WHITE_16 = MAX_LEVEL, 65535.0
CUT = 4.0  # standard deviations; what a Gaussian has beyond is less than 1e-4 of it


class SampleParameters(NamedTuple):
    """The operations on one sample: its row of :class:`mocox.augment.recipe.Parameters`, as Python numbers."""

    jitter: bool
    factors: list[float]
    jitter_order: list[int]
    grayscale: bool
    blur: bool
    sigma: float
    solarize: bool
    flip: bool
    seed: list[int]


def read_parameters(draws: Tensor, view: View) -> Iterator[SampleParameters]:
    """The parameters of B samples, one by one.

    Args:
        draws: (B, P) from [0, 1), see :func:`mocox.augment.recipe.sample_parameters`.
        view: The recipe.
    """
    columns = vars(sample_parameters(draws, view))
    rows = zip(*(columns[name].tolist() for name in SampleParameters._fields), strict=True)
    return (SampleParameters(*row) for row in rows)


def augment_image(image: np.ndarray, parameters: SampleParameters, view: View) -> np.ndarray:
    """Apply the operations of a view in its order.

    Args:
        image: (H, W, C) uint8, uint16 or float32, RGB or any channels; not written to.
        parameters: Parameters of this sample.
        view: The recipe.

    Returns:
        The same shape and type, the image itself if it has 8 bits and nothing happens to it.
    """
    if image.dtype != np.uint8 or not view.is_plain:
        return from_levels(augment_levels(to_levels(image), parameters, view), image.dtype)
    p, whole = parameters, view.rounding == 'pillow'
    for name in view.order:
        if name == 'color_jitter' and p.jitter:
            image = jitter_colors(image, p.factors, p.jitter_order, whole)
        elif name == 'grayscale' and p.grayscale and whole:
            image = cv2.cvtColor(whole_luma(to_levels(image)).astype(np.uint8), cv2.COLOR_GRAY2RGB)
        elif name == 'grayscale' and p.grayscale:
            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        elif name == 'blur' and p.blur:
            image = blur(image, p.sigma, blur_radius(view), view.blur_kernel)
        elif name == 'solarize' and p.solarize:
            image = cv2.LUT(image, _solarize_table(view.solarize_threshold))
        elif name == 'flip' and p.flip:
            image = cv2.flip(image, 1)
    return image


def augment_levels(levels: np.ndarray, parameters: SampleParameters, view: View) -> np.ndarray:
    """The same without rounding, for more than 8 bits and for the operations of :mod:`mocox.augment.domain`.

    Args:
        levels: (H, W, C) float32, 0 to 255; may be overwritten.
        parameters: Parameters of this sample.
        view: The recipe.
    """
    p = parameters
    for name in view.steps:
        if name in LAWS:
            levels = _follow_law(name, levels, p, view)
        elif name == 'color_jitter' and p.jitter:
            levels = _jitter_levels(levels, p.factors, p.jitter_order)
        elif name == 'grayscale' and p.grayscale:
            levels = cv2.cvtColor(cv2.cvtColor(levels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        elif name == 'blur' and p.blur:
            levels = blur(levels, p.sigma, blur_radius(view), view.blur_kernel).reshape(levels.shape)
        elif name == 'solarize' and p.solarize:
            levels = np.where(levels < view.solarize_threshold, levels, np.float32(MAX_LEVEL) - levels)
        elif name == 'flip' and p.flip:
            levels = np.ascontiguousarray(levels[:, ::-1])
    return levels


def to_levels(image: np.ndarray) -> np.ndarray:
    """Convert to float32 from 0 to 255, in new memory; 16 bits become fractional levels."""
    levels = image.astype(np.float32, order='C')
    return np.multiply(levels, WHITE_8 / WHITE_16, out=levels) if image.dtype == np.uint16 else levels


def from_levels(levels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The inverse of :func:`to_levels`, rounded where the type has whole numbers."""
    if dtype == np.float32:
        return levels
    scaled = levels * (WHITE_16 / WHITE_8) if dtype == np.uint16 else levels
    return np.rint(scaled).astype(dtype)


def _follow_law(name: str, levels: np.ndarray, parameters: SampleParameters, view: View) -> np.ndarray:
    batch_of_one = Parameters(**{key: torch.tensor([value]) for key, value in parameters._asdict().items()})
    chosen, numbers = draw_numbers(name, batch_of_one, view, levels.shape[2])
    if not chosen:
        return levels
    result = LAWS[name](torch.from_numpy(levels).permute(2, 0, 1)[None], numbers)
    return np.ascontiguousarray(result[0].permute(1, 2, 0).numpy())


def jitter_colors(image: np.ndarray, factors: list[float], order: list[int], whole: bool = False) -> np.ndarray:
    """Brightness (0), contrast (1), saturation (2) and hue (3) in the given order, clamped after each.

    Args:
        image: (H, W, 3) uint8.
        factors: Factors of brightness, contrast, saturation; shift of hue in turns.
        order: The four operations.
        whole: Make whole levels after each, as Pillow does.
    """
    return cv2.convertScaleAbs(_jitter_levels(to_levels(image), factors, order, whole))  # rounds; nothing is negative


def _jitter_levels(levels: np.ndarray, factors: list[float], order: list[int], whole: bool = False) -> np.ndarray:
    for operation in order:
        factor = factors[operation]
        if operation == 3:
            levels = turn_hue(levels, factor) if factor else levels
            levels = np.rint(levels, out=levels) if factor and whole else levels
        elif factor != 1 and whole:
            levels = _blend_as_pillow(levels, operation, np.float32(factor))
        elif factor != 1:
            levels = _blend_with_gray(levels, operation, factor)
    return levels


def turn_hue(levels: np.ndarray, shift: float) -> np.ndarray:
    """Turn the hue in HSV, without rounding.

    Args:
        levels: (H, W, 3) float32, 0 to 255.
        shift: In turns of the colour circle.
    """
    hsv = cv2.cvtColor(levels, cv2.COLOR_RGB2HSV)  # degrees, 0 to 1, levels
    turned = cv2.add(hsv, (360 * (shift % 1), 0, 0, 0), dst=hsv)  # type: ignore[call-overload]  # stubs lack scalars
    return cv2.cvtColor(turned, cv2.COLOR_HSV2RGB, dst=hsv)


def blur(image: np.ndarray, sigma: float, max_radius: int, kernel: str = 'gaussian') -> np.ndarray:
    """Blur with a Gaussian or its approximation, the border replicated.

    Args:
        image: (H, W, C) uint8 or float32.
        sigma: Standard deviation in pixels.
        max_radius: Pixels at which the Gaussian is cut off at the latest.
        kernel: See :func:`mocox.augment.kernels.blur_weights`.
    """
    if kernel == 'gaussian':
        radius = min(max_radius, int(CUT * sigma) + 1)
        offsets = np.arange(-radius, radius + 1)
        weights = np.exp(-0.5 * (offsets / sigma) ** 2)
        weights /= weights.sum()
    else:
        column = torch.tensor([sigma], dtype=torch.float64)
        weights = blur_weights(column, kernel_radius(sigma, kernel), kernel)[0].numpy()
    # GaussianBlur takes twice as long: its result is the same bits on every machine.
    return cv2.sepFilter2D(image, -1, weights, weights, borderType=cv2.BORDER_REPLICATE)


def _blend_with_gray(levels: np.ndarray, operation: int, factor: float) -> np.ndarray:
    """Brightness (0: with black), contrast (1: with the mean luma) or saturation (2: with the luma)."""
    if operation == 2:
        blended = cv2.transform(levels, factor * np.eye(3, dtype=np.float32) + (1 - factor) * TO_LUMA, dst=levels)
    elif operation == 1:
        mean = np.dot(LUMA, cv2.mean(levels)[:3])  # of the luma: it is linear
        blended = cv2.addWeighted(levels, factor, levels, 0, (1 - factor) * mean, dst=levels)
    else:
        blended = np.multiply(levels, np.float32(factor), out=levels)
    # Below 1, a blend lies between two levels.
    return np.clip(blended, 0, MAX_LEVEL, out=blended) if factor > 1 else blended


def _blend_as_pillow(levels: np.ndarray, operation: int, factor: np.float32) -> np.ndarray:
    """The same in whole levels, of which fractions are cut off."""
    if operation:
        gray = whole_luma(levels)
        total, num = int(cv2.sumElems(gray)[0]), gray.size
        other = gray[..., None] if operation == 2 else np.float32((2 * total + num) // (2 * num))
        blended = np.subtract(levels, other, out=levels)
        blended *= factor
        blended += other
    else:
        blended = np.multiply(levels, factor, out=levels)
    blended = np.clip(blended, 0, MAX_LEVEL, out=blended) if factor > 1 else blended
    return np.floor(blended, out=blended)


def whole_luma(levels: np.ndarray) -> np.ndarray:
    """Pillow's gray of (H, W, 3) whole levels, exact in float32: (H, W)."""
    gray = cv2.transform(levels, WHOLE_LUMA)
    return np.floor(gray, out=gray)


def _solarize_table(threshold: float) -> np.ndarray:
    table = np.arange(256, dtype=np.uint8)
    return np.where(table < threshold, table, 255 - table)
