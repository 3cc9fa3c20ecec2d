"""Unrounded, over the whole range of parameters: compiled against batched, and both against Pillow's own bytes."""

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torchvision.transforms import functional as tvf

from mocox.augment.batched import augment
from mocox.augment.fused import augment_fused, pack_parameters, plan_of
from mocox.augment.recipe import JITTERS, OPERATIONS, Parameters, View, sample_parameters
from tests.support.photographs import crops, draws

SIZE = 40
FACTORS = (0.0, 1e-3, 0.4, 0.999, 1.0, 1.4, 2.0)
SHIFTS = (-0.5, -0.1, -1e-3, 0.0, 1 / 6, 0.25, 0.5)
SIGMAS = (0.1, 0.33, 0.5, 1.0, 1.37, 1.99, 2.0)
WIDEST = dict(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.5)
ALONE = {
    **{name: View(color_jitter={name: WIDEST[name]}) for name in JITTERS},
    'grayscale': View(grayscale_prob=1.0),
    'blur': View(blur_prob=1.0, blur_sigma=(0.1, 2.0)),
    'solarize': View(solarize_prob=1.0),
    'flip': View(flip_prob=1.0),
}
ALL = View(WIDEST, 1.0, 0.5, 1.0, (0.1, 2.0), 0.5, 128.0, 0.5)
JITTER = (tvf.adjust_brightness, tvf.adjust_contrast, tvf.adjust_saturation, tvf.adjust_hue)
PIXELS = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)


def over_the_range(view: View, count: int = len(FACTORS)) -> Parameters:
    """Drawn parameters, with numbers that step through their ranges out of time with each other."""
    n = torch.arange(count)
    drawn = sample_parameters(draws(count), view)
    blends = [torch.tensor(FACTORS)[(n * step) % 7] for step in (1, 2, 3)]
    factors = torch.stack([*blends, torch.tensor(SHIFTS)[(n * 4) % 7]], dim=1)
    factors = torch.where(torch.isin(torch.arange(4), used_jitters(view)), factors, torch.tensor([1.0, 1.0, 1.0, 0.0]))
    orders = torch.tensor(list(permutations(range(4))))[n % 24]
    values = dict(factors=factors.to(drawn.factors), sigma=torch.tensor(SIGMAS)[(n * 5) % 7].to(drawn.sigma))
    return replace(drawn, **values, jitter_order=orders.to(drawn.jitter_order))


def used_jitters(view: View) -> Tensor:
    return torch.tensor([i for i, name in enumerate(JITTERS) if (view.color_jitter or {}).get(name)], dtype=torch.long)


def fused(images: Tensor, parameters: Parameters, view: View, run: Callable = augment_fused) -> Tensor:
    return run(images, pack_parameters(parameters, view), *PIXELS, plan_of(view))


def pillow(images: Tensor, p: Parameters, view: View) -> Tensor:
    results = []
    for n, pixels in enumerate(images):
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        for name in view.order:
            image = change(image, name, p, n, used_jitters(view).tolist())
        results.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    return torch.stack(results).float()


def change(image: Image.Image, name: str, p: Parameters, n: int, jitters: list[int]) -> Image.Image:
    """One operation on one image, as torchvision calls Pillow."""
    if name == 'color_jitter' and p.jitter[n]:
        for operation in filter(jitters.__contains__, p.jitter_order[n].tolist()):
            image = JITTER[operation](image, p.factors[n, operation].item())
    elif name == 'grayscale' and p.grayscale[n]:
        return image.convert('L').convert('RGB')
    elif name == 'blur' and p.blur[n]:
        return image.filter(ImageFilter.GaussianBlur(p.sigma[n].item()))
    elif name == 'solarize' and p.solarize[n]:
        return ImageOps.solarize(image, 128)
    elif name == 'flip' and p.flip[n]:
        return ImageOps.mirror(image)
    return image


# Levels from Pillow, at most and on average: the table of docs/fidelity.md.
FROM_PILLOW = dict(
    brightness=(1.0, 0.24),
    contrast=(1.5, 0.32),
    saturation=(1.5, 0.34),
    hue=(9.01, 0.40),
    grayscale=(0.51, 0.25),
    blur=(25.1, 0.53),
    solarize=(0.0, 0.0),
    flip=(0.0, 0.0),
)


@pytest.mark.parametrize('name', ALONE)
def test_each_operation(name):
    view, images = ALONE[name], crops(49, SIZE)
    parameters = over_the_range(view, len(images))
    batched = augment(images.float(), parameters, view)
    assert (fused(images, parameters, view) - batched).abs().max() < 5e-4
    difference = (batched - pillow(images, parameters, view)).abs()
    largest, mean = FROM_PILLOW[name]
    assert difference.max() <= largest and difference.mean() <= mean


def test_every_order_of_the_operations():
    images, parameters = crops(7, SIZE), over_the_range(ALL)
    for order in permutations(OPERATIONS):
        view = replace(ALL, order=order)
        difference = fused(images, parameters, view) - augment(images.float(), parameters, view)
        assert difference.abs().max() < 5e-4, order
