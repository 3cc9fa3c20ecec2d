"""Crops of one decoded image: the part of augmentation that runs per image, on the CPU.

A transform is called as ``crops(image, rng)`` with an (H, W, C) array (uint8, uint16 or float32) and the sample's own
random generator, and returns ``num_views`` tensors (C, H, W) of the same type. Their memory holds RGBRGB... as the
image's does, which resizes fastest and which OpenCV reads; :func:`mocox.datasets.collate_views` makes planes of it.
"""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from mocox.datasets.base import Crops
from mocox.datasets.resizing import Size, as_tensor, check_interpolation, cut_long, height_and_width, resize_to
from mocox.randomness import global_seed
from mocox.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomResizedCrops:
    """Random resized crops, ``num_views`` of them from one decoded image.

    The law of torchvision's RandomResizedCrop: area and logarithm of the aspect ratio uniform, ten tries, then the
    largest centred crop. The crop is cut out before it is resized, with antialiasing, so that no pixel outside of it
    takes part (equal to Pillow's ``crop().resize()`` up to one level).

    Args:
        size: Side of the result in pixels, or (height, width).
        scale: Smallest and largest area, as fractions of the image.
        ratio: Smallest and largest width / height of the crop, before it is resized to ``size``.
        num_views: Crops per image.
        interpolation: ``bilinear`` or ``bicubic``.
        scaled_decoding: Whether large JPEGs are decoded at 1/2, 1/4 or 1/8 of their size where even the smallest crop
            keeps ``size`` pixels a side. Photographs of 12 megapixels load 1.5 to 2 times as fast and look a little
            softer: 0.4 to 2.3 levels away from the published pipeline on average.
    """

    def __init__(
        self,
        size: Size,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        num_views: int = 2,
        interpolation: str = 'bilinear',
        scaled_decoding: bool = False,
    ) -> None:
        self.size = height_and_width(size)
        self.scale = _range('scale', scale, 1.0)
        self.ratio = _range('ratio', ratio, math.inf)
        self.num_views = _positive_int('num_views', num_views)
        self.interpolation = check_interpolation(interpolation)
        self.scaled_decoding = scaled_decoding

    def reduction(self, height: int, width: int) -> int:
        """The factor (1, 2, 4, 8) by which an image may be shrunk before it is cut, see ``scaled_decoding``."""
        if not self.scaled_decoding:
            return 1
        elongation = max(self.ratio[1], 1 / self.ratio[0])
        smallest = min(height, width, math.sqrt(height * width * self.scale[0] / elongation))
        return max(factor for factor in (1, 2, 4, 8) if factor == 1 or smallest >= factor * max(self.size))

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> list[Tensor]:
        """Cut the views out of one image."""
        views = []
        for _ in range(self.num_views):
            top, left, height, width = self.sample_box(image.shape[0], image.shape[1], rng)
            crop = image[top : top + height, left : left + width]
            views.append(resize_to(crop, self.size, self.interpolation))
        return views

    def sample_box(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Draw one crop of an image of the given size.

        Returns:
            Top, left, height, width in pixels.
        """
        log_ratio = np.log(self.ratio)
        for _ in range(10):
            area = height * width * rng.uniform(*self.scale)
            aspect = math.exp(rng.uniform(*log_ratio))
            crop_width = round(math.sqrt(area * aspect))
            crop_height = round(math.sqrt(area / aspect))
            if 0 < crop_width <= width and 0 < crop_height <= height:
                top = int(rng.integers(height - crop_height + 1))
                left = int(rng.integers(width - crop_width + 1))
                return top, left, crop_height, crop_width
        return self._central_box(height, width)

    def _central_box(self, height: int, width: int) -> tuple[int, int, int, int]:
        crop_height, crop_width = height, width
        if width / height < self.ratio[0]:
            crop_height = max(1, round(width / self.ratio[0]))
        elif width / height > self.ratio[1]:
            crop_width = max(1, round(height * self.ratio[1]))
        return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


@TRANSFORMS.register_module()
class CenterCrop:
    """The view for evaluation: the shorter side resized to ``resize`` with antialiasing, then the central square.

    Of a ``size`` that is not a square, the image is resized until it just covers a rectangle of the same shape, whose
    shorter side is ``resize``, and cut to its middle.

    Args:
        size: Side of the result in pixels, or (height, width).
        resize: Length of the shorter side before the crop, at least that of ``size``; or (height, width) to cover.
        interpolation: ``bilinear`` or ``bicubic``.
    """

    num_views = 1

    def __init__(self, size: Size = 224, resize: Size = 256, interpolation: str = 'bilinear') -> None:
        self.size = height_and_width(size)
        self.resize = height_and_width(resize, 'resize')
        self.interpolation = check_interpolation(interpolation)
        if isinstance(resize, int):
            height, width = (resize * side // min(self.size) for side in self.size)
            self.resize = height, width
        if any(before < after for before, after in zip(self.resize, self.size)):
            raise ValueError(f'resize={resize} is smaller than size={size}: nothing would fill the border of the crop')

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> list[Tensor]:
        """Resize and cuts; nothing is random."""
        image = cut_long(image, max(self.size) / min(self.size))
        (height, width), (rows, columns) = image.shape[:2], self.resize
        if height * columns <= width * rows:  # the height decides
            new_height, new_width = rows, rows * width // height
        else:
            new_height, new_width = columns * height // width, columns
        resized = resize_to(image, (new_height, new_width), self.interpolation)
        top, left = round((new_height - self.size[0]) / 2), round((new_width - self.size[1]) / 2)
        return [resized[:, top : top + self.size[0], left : left + self.size[1]]]


@TRANSFORMS.register_module()
class RandomAffineCrops:
    """Small random affine maps of the whole image, for images that cropping would destroy.

    Handwritten digits, say: part of an 8 is a 0. The law is that of torchvision's RandomAffine, without its rounding of
    shifts to whole pixels. The image is first resized with antialiasing and cut to the central square, then warped
    once, bilinearly.

    Args:
        size: Side of the result in pixels, or (height, width).
        degrees: Largest rotation, to either side.
        translate: Largest shift along x and y, to either side, as fractions of width and height.
        scale: Smallest and largest zoom.
        shear: Largest shear along x in degrees, to either side.
        num_views: Views per image.
        fill: Level (0 to 255) outside of the image.
    """

    def __init__(
        self,
        size: Size,
        degrees: float = 0.0,
        translate: tuple[float, float] = (0.0, 0.0),
        scale: tuple[float, float] = (1.0, 1.0),
        shear: float = 0.0,
        num_views: int = 2,
        fill: int = 0,
    ) -> None:
        self.size = height_and_width(size)
        for name, value, bound in (('degrees', degrees, 180), ('shear', shear, 89), ('fill', fill, 255)):
            if not 0 <= value <= bound:
                raise ValueError(f'{name} must lie between 0 and {bound}, got {value!r}')
        if not all(0 <= value <= 1 for value in translate):
            raise ValueError(f'translate must be fractions between 0 and 1, got {translate!r}')
        self.degrees = degrees
        self.translate = np.array(translate)
        self.scale = _range('scale', scale, math.inf)
        self.shear = shear
        self.num_views = _positive_int('num_views', num_views)
        self.fill = fill
        self._fit = CenterCrop(self.size, self.size)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> list[Tensor]:
        """Warp one image into the views."""
        if image.shape[:2] != self.size:
            image = np.ascontiguousarray(self._fit(image, rng)[0].permute(1, 2, 0).numpy())
        return [self._warp(image, self.sample_matrix(rng)) for _ in range(self.num_views)]

    def sample_matrix(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one map (2, 3) from positions (x, y) in the image to those in the view, pixel centres at integers."""
        angle = rng.uniform(-self.degrees, self.degrees)
        shift = rng.uniform(-1, 1, 2) * self.translate * self.size[::-1]
        zoom = rng.uniform(*self.scale)
        shear = rng.uniform(-self.shear, self.shear)
        return affine_matrix(self.size, angle, shift, zoom, shear)

    def _warp(self, image: np.ndarray, matrix: np.ndarray) -> Tensor:
        fill = (self.fill * (257 if image.dtype == np.uint16 else 1),) * 4  # OpenCV takes four channels at a time
        parts = [np.ascontiguousarray(image[:, :, i : i + 4]) for i in range(0, image.shape[2], 4)]
        warped = [
            cv2.warpAffine(part, matrix, self.size[::-1], flags=cv2.INTER_LINEAR, borderValue=fill) for part in parts
        ]
        return as_tensor(warped[0] if image.shape[2] in (2, 3, 4) else np.dstack(warped))


@TRANSFORMS.register_module()
class TransformedCrops:
    """Crops, then transforms of mmpretrain or MMCV on each of them: RandAugment, random erasing, ...

    Such a transform takes and returns ``dict(img=...)`` with a BGR image and draws from global generators. Here those
    generators are seeded from the sample's own, so what it does is a function of (seed, epoch, index) like the rest.

    Args:
        crops: Config of the transform that cuts the views.
        transforms: Configs, each with its scope: ``dict(type='mmpretrain.RandomErasing', ...)``; one that builds
            others needs ``_scope_='mmpretrain'`` as well. They must keep the size.
    """

    def __init__(self, crops: dict | Crops, transforms: Sequence[dict]) -> None:
        self.crops: Crops = TRANSFORMS.build(crops) if isinstance(crops, dict) else crops
        self.transforms = [TRANSFORMS.build(transform) for transform in transforms]
        self.num_views = self.crops.num_views

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> list[Tensor]:
        """Cut the views and transform each."""
        views = self.crops(image, rng)
        with global_seed(int(rng.integers(2**32))):
            return [self._transform(view) for view in views]

    def _transform(self, view: Tensor) -> Tensor:
        results: dict[str, Any] = dict(
            img=np.ascontiguousarray(view.permute(1, 2, 0).numpy()[..., ::-1]), img_shape=tuple(view.shape[1:])
        )
        for transform in self.transforms:
            results = transform(results)
        transformed = as_tensor(np.ascontiguousarray(results['img'][:, :, ::-1]))
        if transformed.shape != view.shape or transformed.dtype != view.dtype:
            raise ValueError(
                f'transforms made {transformed.dtype} {tuple(transformed.shape)} of {view.dtype} {tuple(view.shape)}: '
                'use only those that keep the type and size of an image'
            )
        return transformed


def affine_matrix(size: Size, angle: float, shift: np.ndarray, zoom: float, shear: float) -> np.ndarray:
    """Shears along x, rotates clockwise (both in degrees) and zooms about the centre, then shifts (pixels)."""
    angle, shear = math.radians(angle), math.radians(shear)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = zoom * rotation @ np.array([[1.0, -math.tan(shear)], [0.0, 1.0]])
    height, width = height_and_width(size)
    centre = np.array([width - 1, height - 1]) / 2
    return np.column_stack([linear, centre + shift - linear @ centre])


def _positive_int(name: str, value: int) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f'{name} must be a positive integer, got {value!r}')
    return value


def _range(name: str, value: tuple[float, float], largest: float) -> tuple[float, float]:
    low, high = value
    if not 0 < low <= high <= largest:
        raise ValueError(f'{name} must be (low, high) with 0 < low <= high <= {largest}, got {value!r}')
    return low, high
