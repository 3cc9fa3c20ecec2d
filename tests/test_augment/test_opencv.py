"""The operations image by image, on real photographs: against the batched ones, Pillow and torchvision."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image, ImageFilter, ImageOps
from sklearn.datasets import load_sample_image
from torch import Tensor
from torchvision.transforms import functional as tvf

from mocox.augment.batched import augment
from mocox.augment.opencv import augment_image, blur, jitter_colors, read_parameters
from mocox.augment.recipe import JITTERS, OPERATIONS, View, sample_parameters
from tests.support.photographs import crops, draws

NUM, SIZE = 48, 96


def in_workers(images: Tensor, draws: Tensor, view: View) -> Tensor:
    """(B, 3, H, W) uint8, each image alone."""
    pixels = images.permute(0, 2, 3, 1).numpy()
    rows = zip(pixels, read_parameters(draws, view), strict=True)
    return torch.stack([torch.from_numpy(augment_image(image, p, view)).permute(2, 0, 1) for image, p in rows])


def differences(view: View, seed: int = 1) -> Tensor:
    """Between the two executions of a view on the same photographs and numbers, in levels."""
    images, numbers = crops(NUM, SIZE), draws(NUM, seed)
    batched = augment(images.float(), sample_parameters(numbers, view), view)
    alone = in_workers(images, numbers, view)
    assert alone.dtype == torch.uint8
    assert (batched - images).abs().mean() > 0.3  # something happens
    return (alone.float() - batched).abs()


@pytest.mark.parametrize('name', JITTERS)
@pytest.mark.parametrize('strength', [0.1, 0.4])
def test_each_jitter_is_the_batched_one_rounded(name, strength):
    assert differences(View(color_jitter={name: strength})).max() <= 0.51


@pytest.mark.parametrize(
    ('view', 'tolerance'),
    [
        (View(color_jitter=dict(hue=0.5)), 0.51),  # all the way around
        (View(color_jitter=dict(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)), 0.51),
        (View(grayscale_prob=1.0), 0.51),
        (View(blur_prob=1.0), 0.51),
        (View(blur_prob=1.0, blur_sigma=(0.1, 0.5)), 0.51),
        (View(solarize_prob=1.0), 0),
        (View(solarize_prob=1.0, solarize_threshold=10.5), 0),
        (View(flip_prob=1.0), 0),
    ],
)
def test_each_operation_is_the_batched_one_rounded(view, tolerance):
    assert differences(view).max() <= tolerance


V1_ORDER = ('grayscale', 'color_jitter', 'blur', 'solarize', 'flip')


@pytest.mark.parametrize('order', [OPERATIONS, V1_ORDER])
def test_whole_views_differ_by_rounding(order):
    """Solarisation at 128 joins 127 and 128 smoothly, so no pixel jumps there."""
    jitter = dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
    view = View(jitter, 0.8, 0.2, 0.5, (0.1, 2.0), 0.3, 128.0, 0.5, order)
    difference = differences(view)
    assert difference.max() <= 1.5
    assert difference.mean() <= 0.27
    assert (difference > 1.01).float().mean() < 1e-3


@pytest.mark.parametrize('name', ['mocov1', 'mocov2', 'mocov3', 'mocov2_32px', 'mocov3_32px'])
def test_the_shipped_recipes_differ_by_rounding(name):
    for config in Config.fromfile(f'configs/_base_/views/{name}.py').data_preprocessor.views:
        difference = differences(View.from_config(config))
        assert difference.max() <= 1.5
        assert difference.mean() <= 0.27


def photo() -> tuple[np.ndarray, Image.Image]:
    image = Image.fromarray(load_sample_image('china.jpg')).resize((SIZE, SIZE))
    return np.array(image), image


def jitter_alone(image: np.ndarray, name: str, factor: float) -> np.ndarray:
    factors = [1.0, 1.0, 1.0, 0.0]
    factors[JITTERS.index(name)] = factor
    return jitter_colors(image, factors, [0, 1, 2, 3])


@pytest.mark.parametrize(
    ('name', 'operation', 'factors', 'largest', 'mean'),
    [
        # Pillow cuts fractions off, we round; its mean luma for contrast is a whole level.
        ('brightness', tvf.adjust_brightness, (0.6, 1.4), 1, 0.6),
        ('contrast', tvf.adjust_contrast, (0.6, 1.4), 2, 0.8),
        ('saturation', tvf.adjust_saturation, (0.6, 1.4), 2, 0.6),
        ('hue', tvf.adjust_hue, (-0.1, 0.1, 0.4), 12, 0.8),  # Pillow rounds hue and saturation to 1 / 255
    ],
)
def test_each_jitter_resembles_pillow(name, operation, factors, largest, mean):
    """The published pipeline is torchvision on Pillow images, whole levels after every operation."""
    pixels, image = photo()
    for factor in factors:
        expected = np.asarray(operation(image, factor)).astype(int)
        difference = np.abs(jitter_alone(pixels, name, factor) - expected)
        assert difference.max() <= largest
        assert difference.mean() <= mean


def test_grayscale_solarize_and_flip_equal_pillow():
    pixels, image = photo()
    for view, expected, tolerance in (
        (View(grayscale_prob=1.0), image.convert('L').convert('RGB'), 1),
        (View(solarize_prob=1.0), ImageOps.solarize(image), 0),
        (View(flip_prob=1.0), ImageOps.mirror(image), 0),
    ):
        (p,) = read_parameters(torch.zeros(1, 16), view)
        difference = np.abs(augment_image(pixels, p, view).astype(int) - np.asarray(expected).astype(int))
        assert difference.max() <= tolerance


@pytest.mark.parametrize('sigma', [0.5, 1.0, 2.0])
def test_blur_resembles_pillow(sigma):
    """Pillow approximates the Gaussian by three box filters."""
    pixels, image = photo()
    expected = np.asarray(image.filter(ImageFilter.GaussianBlur(sigma))).astype(int)
    assert np.abs(blur(pixels, sigma, 6) - expected).mean() < 1.0
    assert np.abs(pixels - expected).mean() > 2.0


def test_blur_of_a_point_is_the_gaussian():
    """Exact weights, to rounding, for each width; a blur wider than the cut stops there."""
    point = np.zeros((31, 31, 3), np.uint8)
    point[15, 15] = 255
    for sigma in (0.1, 0.7, 1.3, 2.0):
        weights = np.exp(-0.5 * (np.arange(-6, 7) / sigma) ** 2)
        weights /= weights.sum()
        expected = np.zeros((31, 31))
        expected[9:22, 9:22] = 255 * np.outer(weights, weights)
        np.testing.assert_allclose(blur(point, sigma, 6)[..., 1], expected, atol=0.51)
    assert not blur(point, 2.0, 2)[15, :13].any()


def test_images_are_not_written_to():
    """A dataset may hold them in memory."""
    view = View(dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1), 1, 1, 1, (0.1, 2.0), 1, 128.0, 1)
    pixels, _ = photo()
    before = pixels.copy()
    (p,) = read_parameters(draws(1), view)
    assert not np.array_equal(augment_image(pixels, p, view), before)
    assert np.array_equal(pixels, before)


def test_a_plain_view_is_the_image_itself():
    pixels, _ = photo()
    (p,) = read_parameters(draws(1), View())
    assert augment_image(pixels, p, View()) is pixels


@pytest.mark.parametrize('colour', [(0, 0, 0), (255, 255, 255), (90, 90, 90), (255, 0, 0), (0, 255, 255)])
def test_flat_colours(colour):
    """No value leaves 0 to 255, also at the strongest jitter; gray stays gray."""
    view = View(dict(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.5))
    image = torch.tensor(colour, dtype=torch.uint8).view(1, 3, 1, 1).expand(NUM, 3, 5, 7)
    numbers = draws(NUM)
    batched = augment(image.float(), sample_parameters(numbers, view), view)
    alone = in_workers(image, numbers, view).float()
    assert (alone - batched).abs().max() <= 0.51
    assert (alone == alone[:, :, :1, :1]).all()
