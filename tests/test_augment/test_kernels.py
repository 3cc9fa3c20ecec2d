"""The two kernels of the blur: their closed forms, and Pillow's pictures."""

from math import ceil

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_image

from mocox.augment.batched import gaussian_blur
from mocox.augment.fused import augment_fused, pack_parameters, plan_of
from mocox.augment.kernels import blur_weights, kernel_radius
from mocox.augment.opencv import blur
from mocox.augment.recipe import View, sample_parameters
from tests.support.photographs import crops, draws

SIGMAS = (0.1, 0.5, 1.0, 1.5, 2.0, 3.3)


@pytest.mark.parametrize('sigma', SIGMAS)
def test_boxes_have_the_variance_of_the_gaussian_and_end(sigma):
    radius = kernel_radius(sigma, 'boxes')
    (weights,) = blur_weights(torch.tensor([sigma], dtype=torch.float64), radius, 'boxes')
    offsets = torch.arange(-radius, radius + 1).double()
    assert weights.sum().item() == pytest.approx(1, rel=1e-12)
    assert (weights * offsets**2).sum().item() == pytest.approx(sigma**2, rel=1e-12)
    assert torch.equal(weights, weights.flip(0)) or torch.allclose(weights, weights.flip(0), rtol=1e-12)
    assert weights[0] > 0 or radius == 3  # no pixel further


def test_a_box_of_whole_pixels_taken_three_times():
    """A variance of 2 is three boxes of three pixels."""
    (weights,) = blur_weights(torch.tensor([2.0**0.5], dtype=torch.float64), 6, 'boxes')
    expected = torch.tensor([0, 0, 0, 1, 3, 6, 7, 6, 3, 1, 0, 0, 0]).double() / 27
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-12)


def distance(sigma: float, kernel: str, picture: np.ndarray) -> float:
    """The largest one to Pillow in levels, inside the border."""
    expected = torch.tensor(np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(sigma))))
    pixels = torch.tensor(picture).permute(2, 0, 1)[None].double()
    blurred = gaussian_blur(pixels, torch.tensor([sigma]), kernel_radius(sigma, kernel), kernel)[0]
    return (blurred - expected.permute(2, 0, 1)).abs()[:, 12:-12, 12:-12].max().item()


@pytest.mark.parametrize('sigma', [0.5, 1.0, 1.5, 2.0])
def test_boxes_are_pillows_filter(sigma):
    """Up to its rounding after each of six passes, which an edge hardly sees and a photograph does."""
    edge = np.zeros((64, 64, 3), np.uint8)
    edge[:, 32:] = 255
    assert distance(sigma, 'boxes', edge) < 0.6
    assert distance(sigma, 'gaussian', edge) > 0.9
    photo = np.array(Image.fromarray(load_sample_image('china.jpg')).resize((128, 128)))
    assert distance(sigma, 'boxes', photo) < 2.5


def test_every_executor_has_the_same_boxes():
    images, view = crops(16, 40), View(blur_prob=1.0, blur_kernel='boxes')
    parameters = sample_parameters(draws(16), view)
    expected = gaussian_blur(images.float(), parameters.sigma, kernel_radius(2.0, 'boxes'), 'boxes')
    zero, one = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    fused = augment_fused(images, pack_parameters(parameters, view), zero, one, plan_of(view))
    torch.testing.assert_close(fused, expected, rtol=0, atol=5e-3)
    for image, sigma, picture in zip(images, parameters.sigma.tolist(), expected, strict=True):
        alone = torch.from_numpy(blur(image.permute(1, 2, 0).numpy(), sigma, 6, 'boxes')).permute(2, 0, 1)
        assert (alone - picture).abs().max() <= 0.51


def test_the_gaussian_is_cut_where_it_was():
    assert [kernel_radius(sigma, 'gaussian') for sigma in SIGMAS] == [ceil(3 * sigma) for sigma in SIGMAS]


def test_another_kernel_is_refused():
    with pytest.raises(ValueError, match=r"blur_kernel must be one of \['gaussian', 'boxes'\], got 'box'"):
        View(blur_kernel='box')
