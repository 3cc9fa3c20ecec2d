"""Views that are not squares: every executor against torchvision's operators, one after the other."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms import functional as tvf

from mocox.augment.batched import augment
from mocox.augment.fused import augment_fused, pack_parameters, plan_of
from mocox.augment.opencv import augment_image, read_parameters
from mocox.augment.recipe import View, blur_radius, sample_parameters
from tests.support.photographs import crops, draws

NUM = 24
VIEW = View(dict(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1), 0.8, 0.2, 0.5, (0.1, 2.0), 0.3, 128.0, 0.5)


def in_batches(images: Tensor, numbers: Tensor) -> Tensor:
    return augment(images.float(), sample_parameters(numbers, VIEW), VIEW)


def as_one_function(images: Tensor, numbers: Tensor) -> Tensor:
    zero, one = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    return augment_fused(images, pack_parameters(sample_parameters(numbers, VIEW), VIEW), zero, one, plan_of(VIEW))


def in_workers(images: Tensor, numbers: Tensor) -> Tensor:
    pixels = (image.permute(1, 2, 0).contiguous().numpy() for image in images)
    views = [augment_image(image, p, VIEW) for image, p in zip(pixels, read_parameters(numbers, VIEW), strict=True)]
    return torch.stack([torch.from_numpy(view).permute(2, 0, 1) for view in views]).float()


def by_torchvision(image: Tensor, p) -> Tensor:
    """One sample; levels as a float tensor."""
    jitters = (tvf.adjust_brightness, tvf.adjust_contrast, tvf.adjust_saturation, tvf.adjust_hue)
    found = image.double() / 255
    for operation in p.jitter_order if p.jitter else ():
        found = jitters[operation](found, p.factors[operation])
    if p.grayscale:
        found = tvf.rgb_to_grayscale(found, 3)
    if p.blur:
        radius = blur_radius(VIEW)
        wide = pad(found[None], (radius,) * 4, mode='replicate')[0]
        found = tvf.gaussian_blur(wide, 2 * radius + 1, p.sigma)[:, radius:-radius, radius:-radius]
    if p.solarize:
        found = torch.where(found * 255 < VIEW.solarize_threshold, found, 1 - found)
    return 255 * (found.flip(2) if p.flip else found)


@pytest.mark.parametrize('size', [(24, 56), (56, 24)])
@pytest.mark.parametrize(('execute', 'tolerance'), [(in_batches, 0.06), (as_one_function, 0.06), (in_workers, 1.5)])
def test_each_executor_is_torchvisions(size, execute, tolerance):
    """Up to the fourth digit of torchvision's luma weights, and in the workers to rounding, three times."""
    images, numbers = crops(NUM, size), draws(NUM)
    found = execute(images, numbers)
    parameters = [*read_parameters(numbers, VIEW)]
    expected = torch.stack([by_torchvision(image, p) for image, p in zip(images, parameters, strict=True)])
    assert found.shape == (NUM, 3, *size)
    assert (found - expected).abs().max() < tolerance
    for name in ('jitter', 'grayscale', 'blur', 'solarize', 'flip'):
        assert {getattr(p, name) for p in parameters} == {True, False}
